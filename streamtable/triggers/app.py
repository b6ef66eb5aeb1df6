"""The triggers of an application, registered by decorating functions."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from streamtable.core.changes import INSERT, MODIFY, REMOVE
from streamtable.core.errors import StreamtableError
from streamtable.triggers.handlers import Function, Handler

__all__ = ["App", "DuplicateTrigger", "InvalidTrigger", "Trigger"]

EVENTS: Final = (INSERT, MODIFY, REMOVE)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")

FunctionT = TypeVar("FunctionT", bound=Function)


class InvalidTrigger(StreamtableError, ValueError):
    """A trigger or an app that can't be registered as it is described."""


class DuplicateTrigger(StreamtableError, ValueError):
    """A second trigger with the name of another one of the same app."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One registered function.

    Attributes:
        name: unique in its app; the position in the log is kept under it.
        table: name of the table whose changes it takes.
        events: the kinds of change it takes, of INSERT, MODIFY and REMOVE.
        handler: the function.
    """

    name: str
    table: str
    events: frozenset[str]
    handler: Handler


class App:
    """A set of triggers that `streamtable worker` runs.

        app = App("shop")

        @app.trigger("users", on="INSERT")
        async def welcome(change: Change[User]) -> None: ...

    Args:
        name: the positions of its triggers are kept under it: under another name, they start
            again at the beginning of the log.

    Raises:
        InvalidTrigger: the name is not made of 1 to 100 letters, digits, `_` and `-`.
    """

    def __init__(self, name: str) -> None:
        _check_name("an app", name)
        self.name = name
        self._triggers: dict[str, Trigger] = {}

    @property
    def triggers(self) -> Mapping[str, Trigger]:
        """The triggers by name, in the order in which they were registered."""
        return MappingProxyType(self._triggers)

    def trigger(
        self,
        table: str,
        *,
        on: str | Iterable[str] = EVENTS,
        name: str | None = None,
    ) -> Callable[[FunctionT], FunctionT]:
        """Register the decorated function for the changes of a table.

        It is called for each change at least once, and for the changes of one item in their
        order. A change is done when the function returns. When it raises, its trigger stops at
        that change and gets it again after the next start; it is never skipped. The function
        itself is returned unchanged, so that it can be called in a test.

        Args:
            table: the table's name; it may be created later.
            on: INSERT, MODIFY or REMOVE, or several of them; all of them unless told.
            name: the trigger's name, the function's own unless told. The position in the log
                is kept under it: a function can be renamed when its trigger keeps its name.

        Raises:
            DuplicateTrigger: the app has a trigger of that name.
            InvalidHandler: the function does not take a change.
            InvalidTrigger: the table's name, an event or the name is none.
        """
        events = frozenset([on] if isinstance(on, str) else on)
        if not events or not events <= set(EVENTS):
            raise InvalidTrigger(f"on={on!r}: a change is one of {', '.join(EVENTS)}")
        if not _TABLE.fullmatch(table):
            raise InvalidTrigger(f"{table!r} can't be the name of a table")

        def register(function: FunctionT) -> FunctionT:
            trigger_name = getattr(function, "__name__", "") if name is None else name
            _check_name("a trigger", trigger_name)
            if trigger_name in self._triggers:
                raise DuplicateTrigger(
                    f"the app {self.name} has a trigger {trigger_name!r} already: give one of "
                    'them a name of its own, @app.trigger(..., name="...")'
                )
            self._triggers[trigger_name] = Trigger(trigger_name, table, events, Handler(function))
            return function

        return register


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidTrigger(
            f"{name!r} can't be the name of {what}: 1 to 100 letters, digits, _ and -"
        )
