"""The rules for what an app names: itself, what it declares, tables, keys, indexes."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from streamtable.core.changes import INSERT, MODIFY, REMOVE
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.triggers.errors import InvalidDeclaration

__all__ = [
    "EVENTS",
    "check_name",
    "check_positive",
    "check_table",
    "check_view_name",
    "is_number",
    "parse_events",
    "parse_key",
]

EVENTS: Final = (INSERT, MODIFY, REMOVE)

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_KEY_TYPES: Final = ("S", "N", "B")


def check_name(what: str, name: str) -> None:
    """Check the name of an app, or of something that is known by a name in its app.

    Raises:
        InvalidDeclaration: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidDeclaration(
            f"{name!r} can't be the name of {what}: 1 to 100 letters, digits, _ and -"
        )


def check_view_name(name: str) -> None:
    """Check the name of a view, which is the name of a table too.

    Raises:
        InvalidDeclaration: it is none.
    """
    check_name("a view", name)
    check_table(name)


def check_table(name: object, what: str = "a table") -> None:
    """Check the name of a table, or of an index, which has the same rules.

    Raises:
        InvalidDeclaration: none can have it.
    """
    if not isinstance(name, str) or not _TABLE.fullmatch(name):
        raise InvalidDeclaration(
            f"{name!r} can't be the name of {what}: 3 to 255 letters, digits, _, - and ."
        )


def check_positive(**values: float | None) -> None:
    """Check that each value that is not None is a number above zero.

    Raises:
        InvalidDeclaration: one is not.
    """
    for name, value in values.items():
        if value is not None and (not is_number(value) or not value > 0):
            raise InvalidDeclaration(f"{name}={value!r} must be greater than 0")


def is_number(value: object) -> bool:
    """Whether a value is a number that can be one of seconds, or a count."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def parse_events(on: str | Iterable[str], known: Iterable[str] = EVENTS) -> frozenset[str]:
    """Return the kinds of change that `on` names, one or several.

    Raises:
        InvalidDeclaration: it names none, or something that is none.
    """
    events = frozenset([on] if isinstance(on, str) else on)
    if not events or not events <= set(known):
        raise InvalidDeclaration(f"on={on!r}: a change is one of {', '.join(known)}")
    return events


def parse_key(
    key: str | Iterable[str], types: Mapping[str, str], *, what: str = "key"
) -> KeySchema:
    """Return the key that one name or two names stand for: partition key, sort key.

    Args:
        key: the attributes' names.
        types: S, N or B for those that are no strings.
        what: the argument's name, for the error.

    Raises:
        InvalidDeclaration: there are none or more than two, or a type is none.
    """
    names = (key,) if isinstance(key, str) else tuple(key)
    if not 1 <= len(names) <= 2 or len(set(names)) != len(names) or not all(names):
        raise InvalidDeclaration(
            f"{what}={key!r}: name the partition key, or the partition key and the sort key"
        )
    attributes = []
    for name in names:
        kind = types.get(name, "S")
        if kind not in _KEY_TYPES:
            raise InvalidDeclaration(f"types={{{name!r}: {kind!r}}}: a key attribute is S, N or B")
        attributes.append(KeyAttribute(name, kind))
    return KeySchema(tuple(attributes[:1]), tuple(attributes[1:]))
