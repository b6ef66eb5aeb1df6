"""The columns of a SELECT: what it answers with of an item, and under which names.

A nested path answers under its last name, with the indexes after it: `a.b[0]` as `b[0]`.

Source: "PartiQL select statements for DynamoDB", developer guide.
"""

from streamtable.core.expressions.nodes import Element, Path
from streamtable.core.expressions.paths import LEAF, find
from streamtable.core.expressions.projection import Projection
from streamtable.core.values import Item

__all__ = ["Columns", "project_columns"]


class Columns(Projection):
    """A projection that answers with what is at its paths, without what is on the way there."""

    __slots__ = ("_columns",)

    def __init__(self, paths: tuple[Path, ...]) -> None:
        super().__init__({path.elements[0]: LEAF for path in paths})
        self._columns = [(_label(path.elements), path.elements) for path in paths]

    def project(self, item: Item) -> Item:
        """Return what is at the paths; what does not exist is left out."""
        found = {}
        for label, elements in self._columns:
            value = find(item, elements)
            if value is not None:
                found[label] = value
        return found


def project_columns(paths: tuple[Path, ...] | None) -> Projection | None:
    """Return the projection of a list of columns, None for whole items."""
    if paths is None:
        return None
    if all(len(path.elements) == 1 for path in paths):
        return Projection.of_attributes(str(path.elements[0]) for path in paths)
    return Columns(paths)


def _label(elements: tuple[Element, ...]) -> str:
    label = ""
    for element in elements:
        label = f"{label}[{element}]" if isinstance(element, int) else element
    return label
