"""How long something is tried again before it is given up."""

import time
from typing import Final

__all__ = ["Patience"]

_PATIENCE_S: Final = 600.0


class Patience:
    """Remembers since when things fail."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def is_over(self, name: str) -> bool:
        """Note that a thing has failed once more, and say whether that goes on for too long."""
        now = time.monotonic()
        return now - self._since.setdefault(name, now) > _PATIENCE_S

    def forget(self, name: str) -> None:
        """Forget about a thing that is done or given up."""
        self._since.pop(name, None)
