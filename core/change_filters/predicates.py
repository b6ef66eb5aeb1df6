"""Predicates over the images of a change, written in Python.

    changed("status") & (new.total > 100) | old.status.exists() & ~new.status.exists()

They are DynamoDB's conditions, with both images in reach: values are compared by value and type,
`1` and `1.0` are one number, a number is never equal to a string, and what is missing makes a
comparison false (`!=` true). They are bound by the evaluator of DynamoDB's expressions, on items
in wire form.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, NoReturn

from streamtable.core.change_filters.filter import ChangeFilter
from streamtable.core.changes import Change
from streamtable.core.errors import ValidationError
from streamtable.core.expressions import nodes
from streamtable.core.expressions.condition import bind
from streamtable.core.expressions.nodes import Element
from streamtable.core.expressions.placeholders import Placeholders, Scope
from streamtable.core.plain import wire_value
from streamtable.core.values import Item, parse_value

__all__ = [
    "PREDICATE",
    "Operand",
    "Predicate",
    "changed",
    "event_name",
    "keys",
    "new",
    "old",
    "parse_path",
    "predicate_from_json",
]

PREDICATE: Final = "predicate"
"""The member of a filter's JSON that has a predicate."""

_STEP: Final = re.compile(r"(?:^|\.)([^.\[\]]+)|\[(\d+)\]")
_NO_PLACEHOLDERS: Final = Placeholders()


class Predicate(ChangeFilter):
    """A condition on a change. Combine predicates with `&`, `|` and `~`.

    Args:
        node: the condition, on an item that has the images as its attributes `old` and `new`,
            the key as `keys`, and `event_name`.

    Raises:
        ValidationError: an operand has a type for which there is no such comparison.
    """

    __slots__ = ("_names", "_test", "node")

    def __init__(self, node: nodes.Condition) -> None:
        scope = Scope("where", _NO_PLACEHOLDERS)
        self.node = node
        self._test = bind(node, scope)
        self._names = frozenset(scope.attributes)

    def matches(self, change: Change) -> bool:
        """Say whether a change is wanted."""
        images: Item = {}
        names = self._names
        if "new" in names and change.new is not None:
            images["new"] = {"M": change.new.item}
        if "old" in names and change.old is not None:
            images["old"] = {"M": change.old.item}
        if "keys" in names:
            images["keys"] = {"M": change.keys}
        if "event_name" in names:
            images["event_name"] = {"S": change.event_name}
        return self._test(images)

    def to_json(self) -> dict[str, Any]:
        """Return the predicate as a JSON object."""
        return {PREDICATE: _dump(self.node)}

    def __and__(self, other: "Predicate") -> "Predicate":
        """Both hold."""
        return Predicate(nodes.And((*_parts(self, nodes.And), *_parts(other, nodes.And))))

    def __or__(self, other: "Predicate") -> "Predicate":
        """One of them holds."""
        return Predicate(nodes.Or((*_parts(self, nodes.Or), *_parts(other, nodes.Or))))

    def __invert__(self) -> "Predicate":
        """It does not hold."""
        return Predicate(nodes.Not(self.node))

    def __eq__(self, other: object) -> bool:
        """Compare what they say."""
        return isinstance(other, Predicate) and self.node == other.node

    def __hash__(self) -> int:
        """Hash what it says."""
        return hash(str(self.node))

    def __bool__(self) -> NoReturn:
        """Refuse: `and`, `or`, `not` and chained comparisons would ask for it."""
        raise TypeError(
            "a predicate is true or false of a change only: combine predicates with & | ~ and "
            "parentheses, not with and, or, not; and write x.between(1, 5) for 1 <= x <= 5"
        )

    def __repr__(self) -> str:
        """Show it in DynamoDB's syntax."""
        return str(self.node)


class Operand:
    """A place in a change: `new.total`, `old.address.city`, `new["a name"]`, `new.lines[0].sku`.

    An attribute that has the name of a method is written in brackets: `new["size"]`.
    """

    __slots__ = ("_node",)
    _node: nodes.Path | nodes.Call
    __hash__: ClassVar[None]  # type: ignore[assignment]  # `==` makes a predicate

    def __init__(self, node: nodes.Path | nodes.Call) -> None:
        object.__setattr__(self, "_node", node)

    def __getattr__(self, name: str) -> "Operand":
        """Go down into a map."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse to change anything."""
        raise AttributeError(f"{self!r} is a place in a change, it can't be assigned to")

    def __getitem__(self, step: str | int) -> "Operand":
        """Go down into a map or a list."""
        if not isinstance(self._node, nodes.Path):
            raise TypeError(f"{self!r} has nothing in it")
        return Operand(nodes.Path((*self._node.elements, step)))

    def __iter__(self) -> NoReturn:
        """Refuse: the steps of a path are not known."""
        raise TypeError(f"{self!r} can't be iterated over")

    def __eq__(self, other: object) -> Predicate:  # type: ignore[override]
        """Equal in type and value."""
        return self._compare("=", other)

    def __ne__(self, other: object) -> Predicate:  # type: ignore[override]
        """Not equal in type and value, or not there."""
        return self._compare("<>", other)

    def __lt__(self, other: object) -> Predicate:
        """Of the same type and less."""
        return self._compare("<", other)

    def __le__(self, other: object) -> Predicate:
        """Of the same type, and less or equal."""
        return self._compare("<=", other)

    def __gt__(self, other: object) -> Predicate:
        """Of the same type and greater."""
        return self._compare(">", other)

    def __ge__(self, other: object) -> Predicate:
        """Of the same type, and greater or equal."""
        return self._compare(">=", other)

    def exists(self) -> Predicate:
        """There is such an attribute, whatever its value."""
        return Predicate(nodes.Call("attribute_exists", (self._node,)))

    def is_in(self, *choices: Any) -> Predicate:
        """Equal to one of the values; they may be given as one list too."""
        if len(choices) == 1 and isinstance(choices[0], (list, tuple, set, frozenset)):
            choices = tuple(choices[0])
        if not choices:
            raise ValidationError(f"{self!r}.is_in(): name at least one value")
        return Predicate(nodes.In(self._node, tuple(map(_operand, choices))))

    def between(self, low: Any, high: Any) -> Predicate:
        """Of the same type as both bounds, and not outside of them."""
        return Predicate(nodes.Between(self._node, _operand(low), _operand(high)))

    def startswith(self, prefix: str | bytes) -> Predicate:
        """A string or binary that begins so."""
        return Predicate(nodes.Call("begins_with", (self._node, _operand(prefix))))

    def contains(self, member: Any) -> Predicate:
        """A string with this part, or a set or list with this member."""
        return Predicate(nodes.Call("contains", (self._node, _operand(member))))

    def has_type(self, kind: str) -> Predicate:
        """Of the type S, N, B, SS, NS, BS, M, L, BOOL or NULL."""
        return Predicate(nodes.Call("attribute_type", (self._node, nodes.Literal({"S": kind}))))

    def size(self) -> "Operand":
        """Length of a string or binary, number of members of a set, list or map."""
        return Operand(nodes.Call("size", (self._node,)))

    def __repr__(self) -> str:
        """Show it as it is written."""
        return str(self._node)

    def _compare(self, operator: str, other: object) -> Predicate:
        return Predicate(nodes.Compare(operator, self._node, _operand(other)))


new: Final = Operand(nodes.Path(("new",)))
"""The item after the change; it has no attributes if the item is removed."""

old: Final = Operand(nodes.Path(("old",)))
"""The item before the change; it has no attributes if the item is new."""

keys: Final = Operand(nodes.Path(("keys",)))
"""The item's key attributes."""

event_name: Final = Operand(nodes.Path(("event_name",)))
"""INSERT, MODIFY or REMOVE."""


def changed(*paths: str) -> Predicate:
    """The value at one of the paths is another one after the change, came, or went.

    Args:
        paths: attribute names, `address.city` and `lines[0]` for what is in them.
    """
    if not paths:
        raise ValidationError("changed(): name at least one attribute")
    tests = []
    for path in paths:
        steps = parse_path(path)
        before = nodes.Path(("old", *steps))
        after = nodes.Path(("new", *steps))
        there = nodes.Or(
            (
                nodes.Call("attribute_exists", (before,)),
                nodes.Call("attribute_exists", (after,)),
            )
        )
        tests.append(nodes.And((nodes.Compare("<>", before, after), there)))
    return Predicate(tests[0] if len(tests) == 1 else nodes.Or(tuple(tests)))


def parse_path(text: str) -> tuple[Element, ...]:
    """Return the steps of a path such as `address.city` or `lines[0].sku`.

    Raises:
        ValidationError: it is none.
    """
    steps: list[Element] = []
    end = 0
    for step in _STEP.finditer(text):
        if step.start() != end:
            break
        end = step.end()
        steps.append(step[1] if step[1] is not None else int(step[2]))
    if end != len(text) or not steps or isinstance(steps[0], int):
        raise ValidationError(f"{text!r} is no path: write an attribute, address.city, or lines[0]")
    return tuple(steps)


def predicate_from_json(raw: Any) -> Predicate:
    """Read what `Predicate.to_json` has under PREDICATE.

    Raises:
        ValidationError: it is none.
    """
    try:
        return Predicate(_load(raw))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValidationError(f"{raw!r} is no predicate: {error}") from error


def _operand(value: Any) -> nodes.Operand:
    if isinstance(value, Operand):
        return value._node  # noqa: SLF001 - its other half
    try:
        return nodes.Literal(wire_value(value))
    except TypeError as error:
        raise ValidationError(str(error)) from error


def _parts(predicate: Predicate, kind: type[nodes.And | nodes.Or]) -> tuple[nodes.Condition, ...]:
    if not isinstance(predicate, Predicate):
        raise TypeError(f"{predicate!r} is no predicate")
    node = predicate.node
    return node.conditions if isinstance(node, kind) else (node,)


def _dump(node: nodes.Condition) -> dict[str, Any]:
    match node:
        case nodes.And(conditions):
            return {"and": [_dump(each) for each in conditions]}
        case nodes.Or(conditions):
            return {"or": [_dump(each) for each in conditions]}
        case nodes.Not(condition):
            return {"not": _dump(condition)}
        case nodes.Compare(operator, left, right):
            return {operator: [_dump_operand(left), _dump_operand(right)]}
        case nodes.Between(operand, low, high):
            return {"between": [_dump_operand(each) for each in (operand, low, high)]}
        case nodes.In(operand, choices):
            return {"in": [_dump_operand(each) for each in (operand, *choices)]}
        case nodes.Call(function, operands):
            return {function: [_dump_operand(each) for each in operands]}


def _dump_operand(node: nodes.Operand) -> dict[str, Any]:
    match node:
        case nodes.Path(elements):
            return {"path": list(elements)}
        case nodes.Literal(value):
            return {"value": value}
        case nodes.Call(function, operands):
            return {function: [_dump_operand(each) for each in operands]}
    raise AssertionError(f"{node!r} is no operand of a predicate")


def _load(raw: Mapping[str, Any]) -> nodes.Condition:
    ((kind, content),) = raw.items()
    if kind == "not":
        return nodes.Not(_load(content))
    if kind == "and":
        return nodes.And(tuple(map(_load, content)))
    if kind == "or":
        return nodes.Or(tuple(map(_load, content)))
    operands = _load_operands(content)
    if kind in nodes.COMPARATORS:
        return nodes.Compare(kind, *operands)
    if kind == "between":
        return nodes.Between(*operands)
    if kind == "in":
        return nodes.In(operands[0], operands[1:])
    if nodes.CONDITION_FUNCTIONS[kind] != len(operands):
        raise ValueError(f"{kind} of {len(operands)} operands")
    return nodes.Call(kind, operands)


def _load_operands(raw: Iterable[Mapping[str, Any]]) -> tuple[nodes.Operand, ...]:
    operands: list[nodes.Operand] = []
    for each in raw:
        ((kind, content),) = each.items()
        if kind == "path":
            operands.append(nodes.Path(tuple(content)))
        elif kind == "value":
            operands.append(nodes.Literal(parse_value(content)))
        elif kind == "size":
            operands.append(nodes.Call("size", _load_operands(content)))
        else:
            raise ValueError(f"{kind!r} is no operand")
    return tuple(operands)
