"""What can be wrong with what an app declares."""

from streamtable.core.errors import StreamtableError

__all__ = [
    "DuplicateName",
    "HandlerExited",
    "InvalidAnswer",
    "InvalidDeclaration",
    "InvalidHandler",
    "InvalidRecording",
    "InvalidRow",
    "Refused",
    "StoreInUse",
    "UnknownName",
]


class InvalidDeclaration(StreamtableError, ValueError):
    """Something that an app can't have as it is described; the text says what to write."""


class DuplicateName(StreamtableError, ValueError):
    """A second trigger, view or search with the name of another one of the same app."""


class InvalidHandler(StreamtableError, TypeError):
    """A function that can't do what it is registered for, as its signature shows."""


class InvalidRow(StreamtableError, ValueError):
    """A view's function has returned something that can't be a row of the view."""


class Refused(StreamtableError):
    """Raised by a check: the write is not to be made. Its text is told to the client."""


class InvalidAnswer(StreamtableError, ValueError):
    """A function has answered something from which it can't be told what is done."""


class HandlerExited(StreamtableError):
    """A function tried to end the program, or was cancelled by itself."""


class InvalidRecording(StreamtableError, ValueError):
    """A recorded change that can't be read."""


class StoreInUse(StreamtableError, RuntimeError):
    """A local store is open elsewhere; one process has it at a time, and opens it once."""


class UnknownName(StreamtableError, LookupError):
    """The app has nothing of that kind and name."""
