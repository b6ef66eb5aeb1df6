"""What a view is: where its rows come from, and which function makes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from streamtable.core.keys import KeySchema
from streamtable.core.values import Item

__all__ = ["Measure", "PairFunction", "RowFunction", "ViewKind", "ViewSpec"]

ViewKind: TypeAlias = Literal["view", "aggregate", "join"]

RowFunction: TypeAlias = Callable[[Item], Sequence[Item]]
"""From an item to its rows, both in canonical wire form. It must say the same each time.

Each row has the key attributes of the view, and is no larger than an item may be.
"""

PairFunction: TypeAlias = Callable[[Item, Item | None], Sequence[Item]]
"""From an item of the left table and one of the right one (or None) to their rows.

What is said of the rows of a `RowFunction` holds for these.
"""


class Measure(Protocol):
    """What an aggregate says about a group."""

    @property
    def kind(self) -> str:
        """`count`, `sum`, `avg`, `min`, `max`, `distinct` or `top`."""

    def definition(self) -> dict[str, Any]:
        """Return the measure as JSON, `kind` in it."""


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A view, an aggregate or a join, as the worker runs it.

    Attributes:
        app: the app that declares it.
        name: its name, which is its table's.
        kind: what it is.
        sources: names of the tables that it follows from; of a join the left and the right one.
        keys: the key of its rows, or of its groups.
        rows: of a view, an item's rows; of an aggregate, its contributions: rows with the
            group's key and the measured values. A join has none.
        pairs: of a join, the rows of two items with the same join value.
        on: of a join, the attribute with the join value, on the left and on the right.
        join_kind: `inner`, or `left`: an item on the left without one on the right is paired
            with None.
        measures: of an aggregate, by name. A measure has `value(row)`: what a contribution
            measures, None where it has no value.
        table: what creating its table takes besides the key: indexes, a stream.
        fingerprint: of what its rows depend on besides the function's code: sources, key,
            measures. Where that changes the view must be built anew.
        code: the fingerprint of the function's code; where only that changes, the user is warned.
        on_error: what becomes of an item that the function raises for. `stop`: the view stops
            there. `deadletter`: the item has no rows, and its change goes to the dead letters.
    """

    app: str
    name: str
    kind: ViewKind
    sources: tuple[str, ...]
    keys: KeySchema
    rows: RowFunction | None = None
    pairs: PairFunction | None = None
    on: tuple[str, str] | None = None
    join_kind: Literal["inner", "left"] = "inner"
    measures: Mapping[str, Any] = field(default_factory=dict)
    table: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    code: str = ""
    on_error: Literal["stop", "deadletter"] = "stop"

    @property
    def key(self) -> str:
        """What users call it: `APP/NAME`."""
        return f"{self.app}/{self.name}"
