"""From what a user writes as `where`, and from JSON, to a filter."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from streamtable.core.change_filters.filter import ChangeFilter
from streamtable.core.change_filters.patterns import PATTERNS, LambdaFilter, parse_criteria
from streamtable.core.change_filters.predicates import PREDICATE, Predicate, predicate_from_json
from streamtable.core.errors import ValidationError

__all__ = ["Where", "filter_from_json", "parse_filter"]

Where: TypeAlias = ChangeFilter | str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""A predicate; or Lambda's FilterCriteria, one pattern or several, as JSON text or not."""


def parse_filter(where: Where) -> ChangeFilter:
    """Return the filter that a user's `where` stands for.

    Raises:
        ValidationError: it is none.
    """
    if isinstance(where, (Predicate, LambdaFilter)):
        return where
    if isinstance(where, (str, Mapping, list, tuple)):
        return parse_criteria(where)
    raise ValidationError(
        f"{where!r} is neither a predicate, such as new.total > 100, nor Lambda's FilterCriteria"
    )


def filter_from_json(raw: Mapping[str, Any]) -> ChangeFilter:
    """Read what `ChangeFilter.to_json` made.

    Raises:
        ValidationError: it is no filter.
    """
    if PREDICATE in raw:
        return predicate_from_json(raw[PREDICATE])
    if PATTERNS in raw:
        return LambdaFilter(raw[PATTERNS])
    raise ValidationError(f"{raw!r} is no filter")
