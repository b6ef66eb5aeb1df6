"""Projections: which parts of an item a read answers with."""

from collections.abc import Iterable
from typing import Any

from streamtable.core.expressions.parser import parse_projection
from streamtable.core.expressions.paths import LEAF, Tree, build_tree, project
from streamtable.core.expressions.placeholders import Placeholders, Scope
from streamtable.core.values import Item

__all__ = ["Projection", "bind_projection"]


class Projection:
    """A projection that is ready for items.

    Attributes:
        paths: the attributes of the item that it has something of.
    """

    __slots__ = ("_flat", "_tree", "paths")

    def __init__(self, tree: Tree) -> None:
        """Make a projection of a tree of paths, see `paths`."""
        self.paths: tuple[str, ...] = tuple(tree)  # type: ignore[arg-type]  # attributes' names
        self._tree = tree
        self._flat = not any(isinstance(branch, dict) for branch in tree.values())

    def project(self, item: Item) -> Item:
        """Return the parts of an item that the projection asks for.

        A list has its elements in the order of the indexes, without gaps; maps and lists that
        have nothing of what was asked for are left out.
        """
        if self._flat:
            return {name: item[name] for name in self.paths if name in item}
        return project(item, self._tree)

    @classmethod
    def of_attributes(cls, names: Iterable[str]) -> "Projection":
        """Return the projection of whole attributes, by their names."""
        tree: dict[Any, Any] = dict.fromkeys(names, LEAF)
        return cls(tree)


def bind_projection(text: str, placeholders: Placeholders) -> Projection:
    """Parse a projection expression and resolve its placeholders.

    Raises:
        ValidationError: it is not a projection, a placeholder is not defined, or paths overlap.
    """
    scope = Scope("ProjectionExpression", placeholders)
    node = placeholders.take(parse_projection(text))
    return Projection(build_tree(((scope.path(p), LEAF) for p in node.paths), scope.prefix))
