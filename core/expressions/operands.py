"""Operands of conditions: a value, what is at a path, the size of either, or a sum."""

from binascii import a2b_base64
from collections.abc import Callable
from typing import Final, TypeAlias

from streamtable.core.expressions.nodes import (
    Arithmetic,
    Call,
    Element,
    Literal,
    Operand,
    Path,
    ValueRef,
)
from streamtable.core.expressions.paths import find
from streamtable.core.expressions.placeholders import Scope
from streamtable.core.numbers import add, subtract
from streamtable.core.values import Item, Value, type_of

__all__ = ["Bound", "Getter", "bind_operand", "path_getter"]

Getter: TypeAlias = Callable[[Item], Value | None]
"""Reads a value from an item, None if there is none."""

_SIZED: Final = frozenset({"S", "B", "SS", "NS", "BS", "L", "M"})


class Bound:
    """An operand with its placeholders resolved.

    Attributes:
        get: reads it from an item.
        path: the path, if it is one.
        constant: the value, if it does not depend on the item.
        kind: its type, if that does not depend on the item.
    """

    __slots__ = ("constant", "get", "kind", "path")

    def __init__(
        self,
        get: Getter,
        path: tuple[Element, ...] | None = None,
        constant: Value | None = None,
        kind: str | None = None,
    ) -> None:
        self.get = get
        self.path = path
        self.constant = constant
        self.kind = kind


def bind_operand(node: Operand, scope: Scope) -> Bound:
    """Resolve an operand of a condition.

    Raises:
        ValidationError: a placeholder is not defined, or `size` is asked of a type without one.
    """
    if isinstance(node, Path):
        path = scope.path(node)
        return Bound(path_getter(path), path)
    if isinstance(node, ValueRef | Literal):
        return _constant(scope.value(node))
    if isinstance(node, Arithmetic):
        return _bind_sum(node, scope)
    return _bind_size(node, scope)


def path_getter(path: tuple[Element, ...]) -> Getter:
    """Return what reads a resolved path."""
    if len(path) == 1:
        name: str = path[0]  # type: ignore[assignment]  # a path begins with a name
        return lambda item: item.get(name)
    return lambda item: find(item, path)


def _constant(value: Value) -> Bound:
    return Bound(lambda _item: value, None, value, type_of(value))


def _bind_sum(node: Arithmetic, scope: Scope) -> Bound:
    """Resolve a sum, which only PartiQL's conditions have; what is no number has none."""
    left, right = bind_operand(node.left, scope), bind_operand(node.right, scope)
    for operand in (left, right):
        if operand.kind not in (None, "N"):
            raise scope.mismatch(node.operator, str(operand.kind))
    compute = add if node.operator == "+" else subtract
    get_left, get_right = left.get, right.get

    def total(item: Item) -> Value | None:
        first, second = get_left(item), get_right(item)
        if first is None or second is None or "N" not in first or "N" not in second:
            return None
        return {"N": compute(first["N"], second["N"])}

    if left.constant is not None and right.constant is not None:
        value = total({})
        assert value is not None
        return _constant(value)
    return Bound(total, kind="N")


def _bind_size(node: Call, scope: Scope) -> Bound:
    if isinstance(node.operands[0], Call):
        # The size of a size: not worth going down all the calls that there may be.
        raise scope.mismatch("size", "N")
    operand = bind_operand(node.operands[0], scope)
    if operand.kind is not None and operand.kind not in _SIZED:
        raise scope.mismatch("size", operand.kind)
    if operand.constant is not None:
        size = _size(operand.constant)
        assert size is not None
        return _constant(size)
    get = operand.get

    def size_of(item: Item) -> Value | None:
        value = get(item)
        return None if value is None else _size(value)

    return Bound(size_of, kind="N")


def _size(value: Value) -> Value | None:
    """Return what `size` is of a value, None for types that have none."""
    kind, content = next(iter(value.items()))
    if kind not in _SIZED:
        return None
    if kind == "S":
        # The guide says no more than "the length of the string"; this is what Java counts.
        length = len(content) if content.isascii() else len(content.encode("utf-16-le")) // 2
    elif kind == "B":
        length = len(a2b_base64(content))
    else:
        length = len(content)
    return {"N": str(length)}
