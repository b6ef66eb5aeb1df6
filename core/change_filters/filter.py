"""The one thing that all filters of changes have in common."""

from abc import ABC, abstractmethod
from typing import Any

from streamtable.core.changes import Change

__all__ = ["ChangeFilter"]


class ChangeFilter(ABC):
    """Says which changes are wanted. Immutable, and the same after a way through JSON."""

    __slots__ = ()

    @abstractmethod
    def matches(self, change: Change) -> bool:
        """Say whether a change is wanted. Never raises."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the filter as a JSON object; `filter_from_json` reads it."""
