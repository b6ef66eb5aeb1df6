"""Updates: bound to the placeholders of a request, then applied to items.

All actions look at the item as it was. An item is never changed in place: `apply` copies the maps
and lists on the way to what changes and shares the rest, and returns the very same object when
nothing changes.

Source: "Update expressions", developer guide; API_UpdateItem, AttributeUpdates.
"""

import operator
from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

from streamtable.core.errors import ValidationError
from streamtable.core.expressions import nodes
from streamtable.core.expressions.nodes import Arithmetic, Call, Literal, Operand, Path, ValueRef
from streamtable.core.expressions.operands import Getter, path_getter
from streamtable.core.expressions.parser import parse_update
from streamtable.core.expressions.paths import Tree, build_tree, project
from streamtable.core.expressions.placeholders import Placeholders, Scope
from streamtable.core.limits import NESTING_LEVELS
from streamtable.core.numbers import add, subtract
from streamtable.core.values import Item, Value, equal, type_of

__all__ = ["LEGACY_UPDATES", "Update", "bind", "bind_update"]

LEGACY_UPDATES: Final = "AttributeUpdates"
"""The parameter whose ADD takes lists too, and which words a mismatch of types differently."""

Step: TypeAlias = Callable[[Item, Value | None], Value | None]
"""What is to be at a path, given the whole item and what is there; None for nothing."""

Source: TypeAlias = Callable[[Item], Value]
"""Reads the value of an operand; raises ValidationError if there is none."""

_TYPE_NAMES: Final = {
    "S": "STRING",
    "N": "NUMBER",
    "B": "BINARY",
    "SS": "STRING_SET",
    "NS": "NUMBER_SET",
    "BS": "BINARY_SET",
    "M": "MAP",
    "L": "LIST",
    "BOOL": "BOOLEAN",
    "NULL": "NULL",
}
_COMPUTATIONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": add,
    "-": subtract,
    "list_append": operator.add,
}
_SETS: Final = frozenset({"SS", "NS", "BS"})
_SCALARS: Final = frozenset({"S", "N", "B", "BOOL", "NULL"})


class Update:
    """An update that is ready for items.

    Attributes:
        paths: the attributes of the item that it sets, changes or removes.
    """

    __slots__ = ("_tree", "paths")

    def __init__(self, tree: Tree) -> None:
        """Make an update of a tree whose leaves are steps."""
        self._tree = tree
        self.paths: Collection[str] = tree.keys()  # type: ignore[assignment]  # names

    def check_keys(self, key_names: Collection[str]) -> None:
        """Refuse an update of the table's key.

        Raises:
            ValidationError: it changes an attribute of the key.
        """
        for name in key_names:
            if name in self._tree:
                raise ValidationError(
                    f"One or more parameter values were invalid: Cannot update attribute {name}. "
                    "This attribute is part of the key"
                )

    def apply(self, item: Item, key_names: Collection[str] = ()) -> Item:
        """Return the item as the update leaves it, the same object if nothing changes.

        Args:
            item: the item as it is, of an item that does not exist its key.
            key_names: attributes that it must not change, unless `check_keys` was called before.

        Raises:
            ValidationError: it changes a key, an operand does not exist or has another type than
                the update needs, or a path leads nowhere.
        """
        if key_names:
            self.check_keys(key_names)
        return _change_members(item, self._tree, item)

    def updated_image(self, item: Item) -> Item:
        """Return the parts of an item that are at the paths of the update.

        Of the item before it is applied they are UPDATED_OLD, of the one after, UPDATED_NEW.
        """
        return project(item, self._tree)


def bind_update(text: str, placeholders: Placeholders) -> Update:
    """Parse an update expression and resolve its placeholders.

    Raises:
        ValidationError: it is not an update, or does not go with its values.
    """
    return bind(placeholders.take(parse_update(text)), Scope("UpdateExpression", placeholders))


def bind(node: nodes.UpdateNode, scope: Scope) -> Update:
    """Make an update of its node.

    Raises:
        ValidationError: a placeholder is not defined, an operand is not acceptable, or paths
            overlap.
    """
    steps = []
    tree: Tree = {}
    for action in node.actions:
        path = scope.path(action.path)
        step = _BINDERS[type(action)](action, scope)
        if len(path) == 1:
            tree[path[0]] = step
        elif isinstance(action, nodes.SetAction):
            step = _within_levels(step, len(path))
        steps.append((path, step))
    if len(tree) < len(steps):
        tree = build_tree(steps, scope.prefix)
    return Update(tree)


def _bind_set(action: nodes.SetAction, scope: Scope) -> Step:
    node = action.value
    if isinstance(node, ValueRef | Literal):
        value = scope.value(node)
        return lambda _item, _old: value
    source, _ = _bind_operand(node, scope)
    return lambda item, _old: source(item)


def _bind_remove(_action: nodes.RemoveAction, _scope: Scope) -> Step:
    return _nothing


def _nothing(_item: Item, _old: Value | None) -> Value | None:
    return None


def _bind_add(action: nodes.AddAction, scope: Scope) -> Step:
    value = scope.value(action.value)
    kind, content = next(iter(value.items()))
    if kind == "N":

        def total(_item: Item, old: Value | None) -> Value | None:
            if old is None:
                return value
            if "N" not in old:
                raise _mismatch(scope)
            return {"N": add(old["N"], content)}

        return total
    if kind not in _SETS and (kind != "L" or scope.parameter != LEGACY_UPDATES):
        raise _not_allowed(scope, "ADD", kind)
    # A list, where it is allowed, gets the elements whether it has them or not.
    distinct = kind in _SETS

    def union(_item: Item, old: Value | None) -> Value | None:
        if old is None:
            return value
        if kind not in old:
            raise _mismatch(scope)
        there = old[kind]
        present = set(there) if distinct else ()
        added = [member for member in content if member not in present]
        return {kind: there + added} if added else old

    return union


def _bind_delete(action: nodes.DeleteAction, scope: Scope) -> Step:
    value = scope.value(action.value)
    kind = type_of(value)
    if kind not in _SETS:
        raise _not_allowed(scope, "DELETE", kind)
    unwanted = frozenset(value[kind])

    def rest(_item: Item, old: Value | None) -> Value | None:
        if old is None:
            return None
        if kind not in old:
            raise _mismatch(scope)
        there = old[kind]
        kept = [member for member in there if member not in unwanted]
        if len(kept) == len(there):
            return old
        return {kind: kept} if kept else None

    return rest


def _bind_operand(node: Operand, scope: Scope) -> tuple[Source, str | None]:
    """Return what reads an operand, and its type if that does not depend on the item.

    One frame for each call in a call: an expression has room for hundreds.
    """
    if isinstance(node, ValueRef | Literal):
        value = scope.value(node)
        return lambda _item: value, type_of(value)
    if isinstance(node, Path):
        return _existing(path_getter(scope.path(node))), None
    if isinstance(node, Call) and node.function == "if_not_exists":
        path, default = node.operands
        if not isinstance(path, Path):
            raise scope.error(
                "Operator or function requires a document path; operator or function: if_not_exists"
            )
        get = path_getter(scope.path(path))
        source, _ = _bind_operand(default, scope)
        return _first_existing(get, source), None
    operands: tuple[Operand, ...]
    if isinstance(node, Arithmetic):
        function, kind, operands = node.operator, "N", (node.left, node.right)
    else:
        function, kind, operands = node.function, "L", node.operands
    sources = []
    for operand in operands:
        source, known = _bind_operand(operand, scope)
        if known is not None and known != kind:
            raise scope.mismatch(function, known)
        sources.append(source)
    return _computed(function, kind, sources, scope), kind


def _existing(get: Getter) -> Source:
    def existing(item: Item) -> Value:
        found = get(item)
        if found is None:
            raise ValidationError(
                "The provided expression refers to an attribute that does not exist in the item"
            )
        return found

    return existing


def _first_existing(get: Getter, default: Source) -> Source:
    def first(item: Item) -> Value:
        found = get(item)
        return default(item) if found is None else found

    return first


def _computed(function: str, kind: str, operands: list[Source], scope: Scope) -> Source:
    """Return what computes a sum, a difference or a longer list of two operands of one type."""
    left, right = operands
    compute = _COMPUTATIONS[function]

    def computed(item: Item) -> Value:
        a, b = left(item), right(item)
        if kind not in a or kind not in b:
            raise _mismatch(scope)
        return {kind: compute(a[kind], b[kind])}

    return computed


def _within_levels(step: Step, depth: int) -> Step:
    """Refuse what would put a document too deep into another one."""

    def checked(item: Item, old: Value | None) -> Value | None:
        value = step(item, old)
        assert value is not None
        if depth - 1 + _levels(value) > NESTING_LEVELS:
            raise ValidationError(
                "Nesting Levels have exceeded supported limits: Attributes in the item have "
                "nested levels beyond supported limit"
            )
        return value

    return checked


def _levels(value: Value) -> int:
    for kind, content in value.items():
        if kind == "M" and content:
            return 1 + max(map(_levels, content.values()))
        if kind == "L" and content:
            return 1 + max(map(_levels, content))
    return 1


def _change_members(members: Item, tree: Tree, item: Item) -> Item:
    changed: Item | None = None
    name: Any
    for name, branch in tree.items():
        old = members.get(name)
        value: Value | None
        value = (
            _change_document(old, branch, item) if isinstance(branch, dict) else branch(item, old)
        )
        if value is None:
            if old is not None:
                if changed is None:
                    changed = members.copy()
                del changed[name]
        elif old is None or not _same(value, old):
            if changed is None:
                changed = members.copy()
            changed[name] = value
    return members if changed is None else changed


def _change_elements(elements: list[Value], tree: Tree, item: Item) -> list[Value]:
    changed: list[Value] | None = None
    removed: list[int] = []
    index: Any
    # In the order of the indexes, so that what lies past the end is appended in it.
    for index in sorted(tree):
        branch = tree[index]
        old = elements[index] if index < len(elements) else None
        value: Value | None
        value = (
            _change_document(old, branch, item) if isinstance(branch, dict) else branch(item, old)
        )
        if value is None:
            if old is not None:
                removed.append(index)
        elif old is None or not _same(value, old):
            if changed is None:
                changed = elements.copy()
            if old is None:
                changed.append(value)
            else:
                changed[index] = value
    if removed and changed is None:
        changed = elements.copy()
    if changed is None:
        return elements
    for index in reversed(removed):
        del changed[index]
    return changed


def _change_document(value: Value | None, tree: Tree, item: Item) -> Value:
    kind = "L" if isinstance(next(iter(tree)), int) else "M"
    content = None if value is None else value.get(kind)
    if value is None or content is None:
        raise ValidationError(
            "The document path provided in the update expression is invalid for update"
        )
    change: Callable[[Any, Tree, Item], Any]
    change = _change_members if kind == "M" else _change_elements
    changed = change(content, tree, item)
    return value if changed is content else {kind: changed}


def _same(value: Value, old: Value) -> bool:
    return value == old or (type_of(value) not in _SCALARS and equal(value, old))


def _mismatch(scope: Scope) -> ValidationError:
    if scope.parameter == LEGACY_UPDATES:
        return ValidationError("Type mismatch for attribute to update")
    return ValidationError("An operand in the update expression has an incorrect data type")


def _not_allowed(scope: Scope, section: str, kind: str) -> ValidationError:
    return scope.error(
        f"Incorrect operand type for operator or function; operator: {section}, operand type: "
        f"{_TYPE_NAMES[kind]}, typeSet: ALLOWED_FOR_{section}_OPERAND"
    )


_BINDERS: Final[dict[type, Callable[[Any, Scope], Step]]] = {
    nodes.SetAction: _bind_set,
    nodes.RemoveAction: _bind_remove,
    nodes.AddAction: _bind_add,
    nodes.DeleteAction: _bind_delete,
}
