"""What an aggregate says about each of its groups."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from streamtable.core.values import Item, Value
from streamtable.triggers.errors import InvalidDeclaration, InvalidRow

__all__ = ["Avg", "Count", "Distinct", "Max", "Measure", "Min", "Sum", "Top"]


@dataclass(frozen=True, slots=True)
class Count:
    """How many contributions a group has."""

    kind: ClassVar[str] = "count"

    def definition(self) -> dict[str, Any]:
        """Return the measure as JSON."""
        return {"kind": self.kind}


@dataclass(frozen=True, slots=True)
class _Of:
    """A measure of one value of each contribution; those without the value don't count.

    Attributes:
        of: the name under which the function returns the value.
    """

    of: str
    kind: ClassVar[str] = ""

    def definition(self) -> dict[str, Any]:
        """Return the measure as JSON."""
        return {"kind": self.kind, "of": self.of}

    def value(self, row: Item) -> Value | None:
        """Return the value of a contribution, None where it has none."""
        value = row.get(self.of)
        return None if value is None or "NULL" in value else value


@dataclass(frozen=True, slots=True)
class _OfNumber(_Of):
    def value(self, row: Item) -> Value | None:
        """Return the number, None where there is none.

        Raises:
            InvalidRow: the value is no number.
        """
        value = _Of.value(self, row)
        if value is not None and "N" not in value:
            raise InvalidRow(f"{self.of} is {value!r}, which is no number: {self!r} needs one")
        return value


@dataclass(frozen=True, slots=True)
class Sum(_OfNumber):
    """The exact sum of a number; 0 for a group in which no contribution has it."""

    kind: ClassVar[str] = "sum"


@dataclass(frozen=True, slots=True)
class Avg(_OfNumber):
    """The average of a number, to 38 digits; absent where no contribution has it."""

    kind: ClassVar[str] = "avg"


@dataclass(frozen=True, slots=True)
class Min(_Of):
    """The smallest value: of a number, a string or bytes; absent where there is none."""

    kind: ClassVar[str] = "min"


@dataclass(frozen=True, slots=True)
class Max(_Of):
    """The greatest value: of a number, a string or bytes; absent where there is none."""

    kind: ClassVar[str] = "max"


@dataclass(frozen=True, slots=True)
class Distinct(_Of):
    """How many different values there are."""

    kind: ClassVar[str] = "distinct"


@dataclass(frozen=True, slots=True)
class Top:
    """The contributions with the greatest values, greatest first, as a list of maps.

    Attributes:
        n: how many, 1 to 100.
        by: the name of the value that orders them.
        show: the names of the values that the list has of each; `by` unless told.
    """

    n: int
    by: str
    show: tuple[str, ...] = ()
    kind: ClassVar[str] = "top"

    def __init__(self, n: int, by: str, show: str | Iterable[str] = ()) -> None:
        if type(n) is not int or not 1 <= n <= 100:
            raise InvalidDeclaration(f"Top({n!r}): the number is a whole one, 1 to 100")
        shown = (show,) if isinstance(show, str) else tuple(show)
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "by", by)
        object.__setattr__(self, "show", shown or (by,))

    def definition(self) -> dict[str, Any]:
        """Return the measure as JSON."""
        return {"kind": self.kind, "n": self.n, "by": self.by, "show": list(self.show)}

    def value(self, row: Item) -> dict[str, Any] | None:
        """Return the ordering value and what is shown of a contribution, None without the value."""
        by = row.get(self.by)
        if by is None or "NULL" in by:
            return None
        return {"by": by, "show": {name: row[name] for name in self.show if name in row}}


Measure: TypeAlias = Count | Sum | Avg | Min | Max | Distinct | Top
