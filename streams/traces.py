"""What the log and its consumers know of traces: a text that travels, and whom to tell.

The text is a `traceparent` of W3C's Trace Context. A request that is sampled brings one; the commit
that carries the request's changes has its own in the record's headers; and each consumer's work on
that record follows from it. Where nothing is sampled there is no text, and nothing is done.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

__all__ = ["TRACE", "Step", "Tracer"]

TRACE: Final = "traceparent"
"""The header of a record, and of a request."""


class Step(Protocol):
    """A step of a trace, under way."""

    @property
    def trace(self) -> str:
        """What those that follow from it name as their cause."""

    def end(self, error: BaseException | None = None, **attributes: Any) -> None:
        """Tell that it has ended.

        Args:
            error: what it failed with.
            attributes: what is known only now.
        """


class Tracer(Protocol):
    """Is told of the steps of traces."""

    def begin(self, name: str, causes: Sequence[str], attributes: Mapping[str, Any]) -> Step:
        """Tell that a step begins.

        Args:
            name: what it is.
            causes: what it follows from, at least one. It is part of the first one's trace, and
                linked to the others.
            attributes: what is known of it.
        """
