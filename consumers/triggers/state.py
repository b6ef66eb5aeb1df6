"""What a trigger must not forget: parked changes, the state of windows."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from streamtable.core.errors import StreamtableError

__all__ = ["HOLDER", "SAVE_ITEMS", "HeldByAnother", "StateStore"]

HOLDER: Final = "holder"
"""The id of the value that says who may write an owner's values: `{"id": ...}`."""

SAVE_ITEMS: Final = 25
"""How many items one `save` takes, all or nothing."""


class HeldByAnother(StreamtableError):
    """Another worker has taken over what this one would have written: it was silent for too long.

    Nothing was written. Whoever took over has read what was there before.
    """


class StateStore(Protocol):
    """Durable JSON values, by owner and id."""

    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        """Return all values of an owner by id, in the order of the ids.

        Raises:
            StreamtableError: the store does not answer.
        """

    async def save(
        self,
        owner: str,
        items: Mapping[str, dict[str, Any] | None],
        holder: str | None = None,
    ) -> None:
        """Store up to `SAVE_ITEMS` values, None removes one; durable on return, all or nothing.

        Args:
            owner: whose they are.
            items: the values by id.
            holder: they are stored only where this is the `id` of the owner's value `HOLDER`.

        Raises:
            HeldByAnother: it is not.
            StreamtableError: the store does not answer; they may be stored or not.
        """
