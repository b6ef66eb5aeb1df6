"""Tumbling windows: what a function keeps of the changes of a while."""

from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from streamtable.consumers.triggers.deliveries import Window as ShardWindow
from streamtable.triggers.errors import InvalidAnswer

__all__ = ["Window"]


@dataclass(slots=True)
class Window:
    """A tumbling window of one shard: the second argument of a trigger with windows.

    Every shard has windows of its own. A change belongs to the window in which it was accepted.

    Attributes:
        state: what the function has left there in this window so far; empty at first. Change it,
            or put another dict in its place; it must be JSON. What a call that fails did to it
            is forgotten.
        start: the window's begin.
        end: its end; a change of that very time is in the next one.
        is_final: this is the window's last call, with no changes.
        shard: the shard.
    """

    state: dict[str, Any]
    start: datetime
    end: datetime
    is_final: bool
    shard: int

    @classmethod
    def of(cls, window: ShardWindow) -> "Window":
        """Return the window for one call, with a state of its own."""
        return cls(
            deepcopy(window.state),
            datetime.fromtimestamp(window.start_ms / 1000, UTC),
            datetime.fromtimestamp(window.end_ms / 1000, UTC),
            window.final,
            window.shard,
        )

    def checked_state(self) -> dict[str, Any]:
        """Return the state that the function has left.

        Raises:
            InvalidAnswer: it is no JSON object.
        """
        try:
            orjson.dumps(self.state)
        except TypeError as error:
            raise InvalidAnswer(
                f"the window's state must be JSON ({error}): keep a Decimal as str(number)"
            ) from error
        if not isinstance(self.state, dict):
            raise InvalidAnswer(f"the window's state must be a dict, not {self.state!r}")
        return self.state
