"""The nodes that expressions are parsed to, and that legacy parameters and PartiQL compile to.

A node is immutable and knows nothing of a request: names and values may be placeholders (`Alias`,
`ValueRef`) that are resolved when the expression is bound. `str(node)` is an expression that
parses to an equal node, as long as the node has no `Literal` (a value that came without a
placeholder) and no name that the expression syntax can't spell.

Source: "Operators and functions" and "Update expressions", developer guide.
"""

from dataclasses import dataclass
from types import UnionType
from typing import Final, TypeAlias

from streamtable.core.values import Value

__all__ = [
    "ARITHMETIC_FUNCTIONS",
    "COMPARATORS",
    "CONDITION_FUNCTIONS",
    "FLIPPED",
    "OPERAND_FUNCTIONS",
    "AddAction",
    "Alias",
    "And",
    "Arithmetic",
    "Between",
    "Call",
    "Compare",
    "Condition",
    "DeleteAction",
    "Element",
    "In",
    "Literal",
    "Not",
    "Operand",
    "Or",
    "Path",
    "ProjectionNode",
    "RemoveAction",
    "SetAction",
    "UpdateAction",
    "UpdateNode",
    "ValueRef",
    "show_path",
    "show_value",
]

FLIPPED: Final = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The comparator that says the same of the operands the other way round."""

COMPARATORS: Final = frozenset({"=", "<>", "<", "<=", ">", ">="})
"""The comparators of conditions."""

CONDITION_FUNCTIONS: Final = {
    "attribute_exists": 1,
    "attribute_not_exists": 1,
    "attribute_type": 2,
    "begins_with": 2,
    "contains": 2,
}
"""The functions that are conditions, and how many operands each takes."""

OPERAND_FUNCTIONS: Final = {"size": 1}
"""The functions that are operands in a condition."""

ARITHMETIC_FUNCTIONS: Final = {"if_not_exists": 2, "list_append": 2}
"""The functions that are operands in an update."""


class Alias(str):
    """A placeholder for an attribute name, with its `#`."""

    __slots__ = ()


Element: TypeAlias = str | int
"""One step of a document path: a name, an `Alias`, or an index of a list."""


@dataclass(frozen=True, slots=True)
class Path:
    """A document path; the first element is an attribute of the item."""

    elements: tuple[Element, ...]

    def __str__(self) -> str:
        steps = [f"[{e}]" if isinstance(e, int) else f".{e}" for e in self.elements]
        return "".join(steps)[1:]


@dataclass(frozen=True, slots=True)
class ValueRef:
    """A placeholder for a value, with its `:`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Literal:
    """A canonical value that needs no placeholder (legacy parameters, PartiQL)."""

    value: Value

    def __str__(self) -> str:
        return show_value(self.value)


@dataclass(frozen=True, slots=True)
class Call:
    """A function call: an operand or a condition, which of the two its name says."""

    function: str
    operands: tuple["Operand", ...]

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.operands))})"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left + right` or `left - right`, only in the SET section of an update."""

    operator: str
    left: "Operand"
    right: "Operand"

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


Operand: TypeAlias = Path | ValueRef | Literal | Call | Arithmetic


@dataclass(frozen=True, slots=True)
class Compare:
    """Two operands and one of `COMPARATORS`."""

    operator: str
    left: Operand
    right: Operand

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class Between:
    """`operand BETWEEN low AND high`, both bounds included."""

    operand: Operand
    low: Operand
    high: Operand

    def __str__(self) -> str:
        return f"{self.operand} BETWEEN {self.low} AND {self.high}"


@dataclass(frozen=True, slots=True)
class In:
    """`operand IN (choice, ...)`."""

    operand: Operand
    choices: tuple[Operand, ...]

    def __str__(self) -> str:
        return f"{self.operand} IN ({', '.join(map(str, self.choices))})"


@dataclass(frozen=True, slots=True)
class Not:
    """True where the condition is false."""

    condition: "Condition"

    def __str__(self) -> str:
        return f"NOT {_grouped(self.condition, And | Or)}"


@dataclass(frozen=True, slots=True)
class And:
    """True where all conditions are; at least two."""

    conditions: tuple["Condition", ...]

    def __str__(self) -> str:
        return " AND ".join(_grouped(condition, And | Or) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Or:
    """True where one of the conditions is; at least two."""

    conditions: tuple["Condition", ...]

    def __str__(self) -> str:
        return " OR ".join(_grouped(condition, Or) for condition in self.conditions)


Condition: TypeAlias = Compare | Between | In | Call | Not | And | Or


@dataclass(frozen=True, slots=True)
class SetAction:
    """Put a value at a path; a path one past the end of a list, or further, appends."""

    path: Path
    value: Operand

    def __str__(self) -> str:
        return f"{self.path} = {self.value}"


@dataclass(frozen=True, slots=True)
class RemoveAction:
    """Remove what is at a path, if there is anything."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class AddAction:
    """Add to a number, or members to a set; what does not exist yet is made."""

    path: Path
    value: ValueRef | Literal

    def __str__(self) -> str:
        return f"{self.path} {self.value}"


@dataclass(frozen=True, slots=True)
class DeleteAction:
    """Take members out of a set; the last one takes the attribute along."""

    path: Path
    value: ValueRef | Literal

    def __str__(self) -> str:
        return f"{self.path} {self.value}"


UpdateAction: TypeAlias = SetAction | RemoveAction | AddAction | DeleteAction

_SECTIONS: Final[dict[type[UpdateAction], str]] = {
    SetAction: "SET",
    RemoveAction: "REMOVE",
    AddAction: "ADD",
    DeleteAction: "DELETE",
}


@dataclass(frozen=True, slots=True)
class UpdateNode:
    """An update: its actions in the order of the text, those of a section side by side."""

    actions: tuple[UpdateAction, ...]

    def __str__(self) -> str:
        sections: dict[str, list[str]] = {}
        for action in self.actions:
            sections.setdefault(_SECTIONS[type(action)], []).append(str(action))
        return " ".join(f"{name} {', '.join(texts)}" for name, texts in sections.items())


@dataclass(frozen=True, slots=True)
class ProjectionNode:
    """The paths of a projection."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.paths))


def show_path(elements: tuple[Element, ...]) -> str:
    """Return a resolved path as DynamoDB's messages show it: `[a, b, [0]]`."""
    return f"[{', '.join(f'[{e}]' if isinstance(e, int) else e for e in elements)}]"


def show_value(value: Value) -> str:
    """Return a value as DynamoDB's messages show it: `AttributeValue: {N:5}`."""
    return f"AttributeValue: {_show(value)}"


def _show(value: Value) -> str:
    for kind, content in value.items():
        if kind == "M":
            members = ", ".join(f"{name}={_show(member)}" for name, member in content.items())
            return f"{{M:{{{members}}}}}"
        if kind == "L":
            return f"{{L:[{', '.join(map(_show, content))}]}}"
        if isinstance(content, list):
            return f"{{{kind}:[{', '.join(content)}]}}"
        if isinstance(content, bool):
            return f"{{{kind}:{str(content).lower()}}}"
        return f"{{{kind}:{content}}}"
    raise AssertionError("a canonical value has one type")


def _grouped(condition: Condition, kinds: type | UnionType) -> str:
    """Show a condition that is part of another one, in parentheses if it is one of `kinds`."""
    return f"({condition})" if isinstance(condition, kinds) else str(condition)
