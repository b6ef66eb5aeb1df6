"""Lambda's filter patterns, on the stream record of a change.

A pattern is a JSON object in the shape of the record; its leaves are lists of rules, of which one
must hold. Source: "Control which events Lambda sends to your function" (filter rule syntax) and
"Using event filtering with a DynamoDB event source", Lambda developer guide.

As there, values are compared as JSON: an attribute `{"N": "5"}` has a string, so that `["5"]`
matches it, and neither `[5]` nor `numeric` does.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from streamtable.core.change_filters.filter import ChangeFilter
from streamtable.core.changes import Change
from streamtable.core.errors import ValidationError
from streamtable.core.stream_records import record_size

__all__ = ["PATTERNS", "LambdaFilter", "parse_criteria"]

PATTERNS: Final = "patterns"
"""The member of a filter's JSON that has patterns."""

_MAX_FILTERS: Final = 10
_VIEW: Final = "NEW_AND_OLD_IMAGES"
_OR: Final = "$or"
# What the positions of a change in the log are; a filter is asked before there is a batch.
_UNKNOWN: Final = frozenset({("eventID",), ("eventSourceARN",), ("dynamodb", "SequenceNumber")})

_Test: TypeAlias = Callable[[Any], bool]


class _Missing:
    """Stands for a value that is not there."""


_MISSING: Final = _Missing()


class LambdaFilter(ChangeFilter):
    """Takes the changes whose record matches one of some patterns.

    The record has both images, whatever the view type of the table's stream.

    Args:
        patterns: the patterns, as JSON objects.

    Raises:
        ValidationError: one is none, or there are none or more than ten.
    """

    __slots__ = ("_sized", "_tests", "patterns")

    def __init__(self, patterns: Iterable[Mapping[str, Any]]) -> None:
        self.patterns = tuple(dict(pattern) for pattern in patterns)
        if not 1 <= len(self.patterns) <= _MAX_FILTERS:
            raise ValidationError(f"there must be 1 to {_MAX_FILTERS} filters")
        # What a record's size is takes a while to say.
        self._sized = b"SizeBytes" in orjson.dumps(self.patterns)
        self._tests = [_compile_object(pattern, ()) for pattern in self.patterns]

    def matches(self, change: Change) -> bool:
        """Say whether a change is wanted."""
        record = _record(change, sized=self._sized)
        for test in self._tests:  # noqa: SIM110 - `any` would cost a generator
            if test(record):
                return True
        return False

    def to_json(self) -> dict[str, Any]:
        """Return the patterns as a JSON object."""
        return {PATTERNS: list(self.patterns)}

    def __eq__(self, other: object) -> bool:
        """Compare the patterns."""
        return isinstance(other, LambdaFilter) and self.patterns == other.patterns

    def __hash__(self) -> int:
        """Hash the patterns."""
        return hash(orjson.dumps(self.patterns))

    def __repr__(self) -> str:
        """Show the patterns."""
        return f"LambdaFilter({orjson.dumps(self.patterns).decode()})"


def parse_criteria(criteria: Any) -> LambdaFilter:
    """Read Lambda's FilterCriteria, a pattern, or a list of patterns; each as JSON text or not.

    Raises:
        ValidationError: it is none of these, or a pattern is none.
    """
    found = _json(criteria)
    if isinstance(found, Mapping) and "Filters" in found:
        found = found["Filters"]
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, (list, tuple)):
        raise ValidationError(f"{criteria!r} is neither FilterCriteria nor a list of patterns")
    return LambdaFilter(_pattern(each) for each in found)


def _pattern(raw: Any) -> Mapping[str, Any]:
    found = _json(raw)
    if isinstance(found, Mapping) and found.keys() == {"Pattern"}:
        found = _json(found["Pattern"])
    if not isinstance(found, Mapping):
        raise ValidationError(f"the pattern {raw!r} is no JSON object")
    return found


def _json(raw: Any) -> Any:
    if not isinstance(raw, (str, bytes)):
        return raw
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValidationError(f"{raw!r} is no JSON: {error}") from error


def _record(change: Change, *, sized: bool) -> dict[str, Any]:
    stream: dict[str, Any] = {
        "ApproximateCreationDateTime": change.created_ms // 1000,
        "Keys": change.keys,
        "StreamViewType": _VIEW,
    }
    if sized:
        stream["SizeBytes"] = record_size(change, _VIEW)
    if change.new is not None:
        stream["NewImage"] = change.new.item
    if change.old is not None:
        stream["OldImage"] = change.old.item
    record: dict[str, Any] = {
        "eventName": change.event_name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": change.region,
        "dynamodb": stream,
    }
    if change.service is not None:
        record["userIdentity"] = {"type": "Service", "principalId": change.service}
    return record


def _compile_object(pattern: Mapping[str, Any], path: tuple[str, ...]) -> _Test:
    """Return a test of a JSON object: every member must match."""
    if not pattern:
        raise ValidationError(f"the pattern is empty at {_show(path)}")
    tests = [_compile_member(name, rules, path) for name, rules in pattern.items()]

    def test(value: Any) -> bool:
        for each in tests:  # noqa: SIM110 - `all` would cost a generator
            if not each(value):
                return False
        return True

    return test


def _compile_member(name: str, rules: Any, path: tuple[str, ...]) -> _Test:
    here = (*path, name)
    if name == _OR:
        return _compile_alternatives(rules, path)
    if here in _UNKNOWN:
        raise ValidationError(f"{_show(here)} can't be filtered by: filter by what has changed")
    if isinstance(rules, Mapping):
        inner = _compile_object(rules, here)
    elif isinstance(rules, list) and rules:
        inner = _compile_rules(rules, here)
    else:
        raise ValidationError(f"{_show(here)} must be an object or a list of rules, not {rules!r}")

    def test(value: Any) -> bool:
        # A list of maps matches where one of them does.
        if isinstance(value, list):
            return any(inner(each.get(name, _MISSING)) for each in value if isinstance(each, dict))
        return inner(value.get(name, _MISSING) if isinstance(value, dict) else _MISSING)

    return test


def _compile_alternatives(patterns: Any, path: tuple[str, ...]) -> _Test:
    if not isinstance(patterns, list) or len(patterns) < 2:
        raise ValidationError(f"{_show((*path, _OR))} must be a list of two patterns or more")
    if not all(isinstance(pattern, Mapping) for pattern in patterns):
        raise ValidationError(f"{_show((*path, _OR))} has something that is no pattern")
    tests = [_compile_object(pattern, path) for pattern in patterns]
    return lambda value: any(test(value) for test in tests)


def _compile_rules(rules: list[Any], path: tuple[str, ...]) -> _Test:
    """Return a test of a value: one of the rules must hold, for a list for one of its members."""
    tests = [_compile_rule(rule, path) for rule in rules]

    def test(value: Any) -> bool:
        if isinstance(value, list) and value:
            return any(each(member) for each in tests for member in value)
        return any(each(value) for each in tests)

    return test


def _compile_rule(rule: Any, path: tuple[str, ...]) -> _Test:
    if rule is None or isinstance(rule, (str, bool, int, float)):
        return _equals(rule)
    if isinstance(rule, Mapping) and len(rule) == 1:
        ((kind, argument),) = rule.items()
        make = _RULES.get(kind)
        if make is not None:
            test = make(argument)
            if test is not None:
                return test
    raise ValidationError(
        f"{_show(path)}: {rule!r} is no rule: a value, or one of {', '.join(_RULES)}"
    )


def _equals(expected: Any) -> _Test:
    kind = type(expected)
    if kind in {int, float}:
        # As Lambda compares numbers: by their text, 300 is not 300.0.
        text = str(expected)
        return lambda value: type(value) in {int, float} and str(value) == text
    return lambda value: type(value) is kind and bool(value == expected)


def _prefix(argument: Any) -> _Test | None:
    return _affix(argument, str.startswith)


def _suffix(argument: Any) -> _Test | None:
    return _affix(argument, str.endswith)


def _affix(argument: Any, has: Callable[[str, str], bool]) -> _Test | None:
    if isinstance(argument, str):
        return lambda value: isinstance(value, str) and has(value, argument)
    if isinstance(argument, Mapping) and argument.keys() == {"equals-ignore-case"}:
        wanted = argument["equals-ignore-case"]
        if isinstance(wanted, str):
            folded = wanted.casefold()
            return lambda value: isinstance(value, str) and has(value.casefold(), folded)
    return None


def _ignore_case(argument: Any) -> _Test | None:
    if not isinstance(argument, str):
        return None
    folded = argument.casefold()
    return lambda value: isinstance(value, str) and value.casefold() == folded


def _exists(argument: Any) -> _Test | None:
    if not isinstance(argument, bool):
        return None
    # Only leaves exist: "doesn't match intermediate nodes in the event JSON".
    return lambda value: (value is not _MISSING and not isinstance(value, dict)) is argument


def _anything_but(argument: Any) -> _Test | None:
    """Return a test for a value that is there and is none of these."""
    tests: list[_Test] = []
    if isinstance(argument, Mapping):
        if len(argument) != 1 or not argument.keys() <= {"prefix", "suffix", "equals-ignore-case"}:
            return None
        ((kind, inner),) = argument.items()
        for each in inner if isinstance(inner, list) else [inner]:
            test = _RULES[kind](each)
            if test is None:
                return None
            tests.append(test)
    else:
        values = argument if isinstance(argument, list) else [argument]
        if not values or not all(isinstance(value, (str, int, float)) for value in values):
            return None
        tests = [_equals(value) for value in values]

    def test_all(value: Any) -> bool:
        if value is _MISSING or isinstance(value, dict):
            return False
        return not any(each(value) for each in tests)

    return test_all


_COMPARATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _numeric(argument: Any) -> _Test | None:
    if not isinstance(argument, list) or len(argument) not in {2, 4}:
        return None
    bounds = []
    for comparator, bound in zip(argument[::2], argument[1::2], strict=True):
        if comparator not in _COMPARATORS or isinstance(bound, bool):
            return None
        if not isinstance(bound, (int, float)):
            return None
        bounds.append((_COMPARATORS[comparator], bound))
    return lambda value: (
        type(value) in {int, float} and all(compare(value, bound) for compare, bound in bounds)
    )


_RULES: Final[dict[str, Callable[[Any], _Test | None]]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignore_case,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
}


def _show(path: tuple[str, ...]) -> str:
    return ".".join(path) or "its top"
