"""The columns of a SELECT: what it answers with of an item, and under which names.

A nested path answers under its last name, with the indexes after it: `a.b[0]` as `b[0]`. A
function or a sum has no name of its own: as PartiQL has it, it answers under its place, the first
column as `_1`.

Sources: "PartiQL select statements for DynamoDB", developer guide, which lets a column be a call of
a function or be modified by an operator, but has no example of it; PartiQL's specification, SELECT.
"""

from collections.abc import Iterator

from streamtable.core.expressions.nodes import Arithmetic, Call, Element, Operand, Path
from streamtable.core.expressions.operands import bind_operand
from streamtable.core.expressions.paths import LEAF
from streamtable.core.expressions.placeholders import Scope
from streamtable.core.expressions.projection import Projection
from streamtable.core.values import Item

__all__ = ["Columns", "paths_of", "project_columns"]


class Columns(Projection):
    """A projection that answers with what its columns are, without what is on the way there."""

    __slots__ = ("_columns",)

    def __init__(self, columns: tuple[Operand, ...], scope: Scope) -> None:
        super().__init__({path.elements[0]: LEAF for one in columns for path in paths_of(one)})
        self._columns = [
            (_label(place, column), bind_operand(column, scope).get)
            for place, column in enumerate(columns, 1)
        ]

    def project(self, item: Item) -> Item:
        """Return what the columns are; what does not exist is left out."""
        found = {}
        for label, get in self._columns:
            value = get(item)
            if value is not None:
                found[label] = value
        return found


def project_columns(columns: tuple[Operand, ...] | None, scope: Scope) -> Projection | None:
    """Return the projection of a list of columns, None for whole items.

    Raises:
        ValidationError: a function or an operator is used on what it is not made for.
    """
    if columns is None:
        return None
    names = [
        column.elements[0]
        for column in columns
        if isinstance(column, Path) and len(column.elements) == 1
    ]
    if len(names) == len(columns):
        return Projection.of_attributes(map(str, names))
    return Columns(columns, scope)


def paths_of(operand: Operand) -> Iterator[Path]:
    """Yield the paths that an operand reads."""
    if isinstance(operand, Path):
        yield operand
    elif isinstance(operand, Call):
        for one in operand.operands:
            yield from paths_of(one)
    elif isinstance(operand, Arithmetic):
        yield from paths_of(operand.left)
        yield from paths_of(operand.right)


def _label(place: int, column: Operand) -> str:
    if not isinstance(column, Path):
        return f"_{place}"
    label: Element = ""
    for element in column.elements:
        label = f"{label}[{element}]" if isinstance(element, int) else element
    return str(label)
