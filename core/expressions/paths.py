"""Document paths: what is at them, and trees of paths that share their beginnings.

A tree maps each first step of its paths to what comes after: another tree, or a leaf where a path
ends. Any object that is not a dict is a leaf. The first steps are attributes of the item, the
others names in a map or indexes in a list, never both below one step.
"""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.nodes import Element, show_path
from streamtable.core.values import Item, Value

__all__ = ["LEAF", "Tree", "build_tree", "find", "project"]

Tree: TypeAlias = dict[Element, Any]
"""Steps to subtrees or leaves."""

LEAF: Final = True
"""A leaf that only says that a path ends here."""


def build_tree(leaves: Iterable[tuple[tuple[Element, ...], Any]], prefix: str) -> Tree:
    """Join paths to a tree, each with its leaf.

    Args:
        leaves: resolved paths and what is to stand at their ends, not a dict.
        prefix: what errors begin with, "Invalid UpdateExpression: ".

    Raises:
        ValidationError: a path is another one or goes on from it, or two want a map and a list at
            the same place.
    """
    tree: Tree = {}
    earlier: list[tuple[Element, ...]] = []
    for path, leaf in leaves:
        branch = tree
        *steps, last = path
        for step in steps:
            if branch and isinstance(next(iter(branch)), int) is not isinstance(step, int):
                raise _collision(prefix, earlier, path)
            branch = branch.setdefault(step, {})
            if not isinstance(branch, dict):
                raise _collision(prefix, earlier, path)
        if last in branch or (
            branch and isinstance(next(iter(branch)), int) is not isinstance(last, int)
        ):
            raise _collision(prefix, earlier, path)
        branch[last] = leaf
        earlier.append(path)
    return tree


def find(item: Item, path: tuple[Element, ...]) -> Value | None:
    """Return what is at a path of an item, None if nothing is."""
    name, *steps = path
    value = item.get(name)  # type: ignore[arg-type]  # a path begins with a name
    for step in steps:
        if value is None:
            return None
        value = _member(value, step)
    return value


def project(item: Item, tree: Tree) -> Item:
    """Return the parts of an item that are at the paths of a tree.

    Maps and lists on the way have only what was asked for; a list has it in the order of the
    indexes, without gaps. What does not exist is left out, and so is a map or a list on the way
    to it alone.
    """
    found: Item = {}
    for name, branch in tree.items():
        value = item.get(name)  # type: ignore[arg-type]  # likewise
        if value is not None:
            part = _part(value, branch) if isinstance(branch, dict) else value
            if part is not None:
                found[name] = part  # type: ignore[index]  # likewise
    return found


def _member(value: Value, step: Element) -> Value | None:
    """Return what is one step below a value, None if nothing is."""
    if isinstance(step, int):
        elements = value.get("L")
        return elements[step] if elements is not None and step < len(elements) else None
    members = value.get("M")
    return None if members is None else members.get(step)


def _part(value: Value, tree: Tree) -> Value | None:
    if isinstance(next(iter(tree)), int):
        parts = []
        for index in sorted(tree):
            element = _member(value, index)
            branch = tree[index]
            if element is not None and isinstance(branch, dict):
                element = _part(element, branch)
            if element is not None:
                parts.append(element)
        return {"L": parts} if parts else None
    members = value.get("M")
    if members is None:
        return None
    found = project(members, tree)
    return {"M": found} if found else None


def _collision(
    prefix: str, earlier: list[tuple[Element, ...]], path: tuple[Element, ...]
) -> ValidationError:
    """Return the error about a path that does not go with one of the earlier ones."""
    for other in earlier:
        verb = _relation(other, path)
        if verb:
            return ValidationError(
                f"{prefix}Two document paths {verb} with each other; must remove or rewrite one "
                f"of these paths; path one: {show_path(other)}, path two: {show_path(path)}"
            )
    raise AssertionError(f"{path} was found to collide with none of {earlier}")


def _relation(one: tuple[Element, ...], two: tuple[Element, ...]) -> str | None:
    for a, b in zip(one, two, strict=False):
        if isinstance(a, int) is not isinstance(b, int):
            return "conflict"
        if a != b:
            return None
    return "overlap"
