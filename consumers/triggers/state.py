"""What a trigger must not forget: parked changes, the state of windows."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

__all__ = ["SAVE_ITEMS", "StateStore"]

SAVE_ITEMS: Final = 25
"""How many items one `save` takes, all or nothing."""


class StateStore(Protocol):
    """Durable JSON values, by owner and id."""

    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        """Return all values of an owner by id, in the order of the ids.

        Raises:
            StreamtableError: the store does not answer.
        """

    async def save(self, owner: str, items: Mapping[str, dict[str, Any] | None]) -> None:
        """Store up to `SAVE_ITEMS` values, None removes one; durable on return, all or nothing.

        Raises:
            StreamtableError: the store does not answer; they may be stored or not.
        """
