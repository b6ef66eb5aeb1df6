"""From what a user writes as `where`, and from JSON, to a filter."""

from typing import TypeAlias

from streamtable.core.change_filters.filter import ChangeFilter
from streamtable.core.errors import ValidationError

__all__ = ["Where", "parse_filter"]

Where: TypeAlias = ChangeFilter


def parse_filter(where: Where) -> ChangeFilter:
    """Return the filter that a user's `where` stands for.

    Raises:
        ValidationError: it is none.
    """
    if isinstance(where, ChangeFilter):
        return where
    raise ValidationError("no filter")
