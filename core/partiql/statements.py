"""Parsed statements: immutable, and the same for all requests that have their text.

Conditions and the actions of updates are the nodes of `core.expressions`; a value with
parameters is a `ValueRef` there, named `?0`, `?1` and so on after its place in `templates`.
"""

from dataclasses import dataclass
from typing import TypeAlias

from streamtable.core.expressions.nodes import Condition, Operand, UpdateNode
from streamtable.core.partiql.templates import MapOf, Parameter, Template

__all__ = ["Delete", "Exists", "Insert", "Order", "Parsed", "Select", "Statement", "Update"]


@dataclass(frozen=True, slots=True)
class Order:
    """One key of an ORDER BY clause."""

    name: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Select:
    """A SELECT statement.

    Attributes:
        columns: what it asks for, None for `*`.
        table: the table as the statement names it.
        index: the index, or None.
        where: the condition, or None.
        order: the keys of ORDER BY.
    """

    columns: tuple[Operand, ...] | None
    table: str
    index: str | None
    where: Condition | None
    order: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """`EXISTS(SELECT ...)`, a condition check of a transaction."""

    select: Select

    @property
    def table(self) -> str:
        """The table as the statement names it."""
        return self.select.table


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT statement; a parameter may bring the whole item."""

    table: str
    item: MapOf | Parameter


@dataclass(frozen=True, slots=True)
class Update:
    """An UPDATE statement; `returning` is the ReturnValues that it asks for."""

    table: str
    actions: UpdateNode
    where: Condition | None
    returning: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A DELETE statement; `returning` is the ReturnValues that it asks for."""

    table: str
    where: Condition | None
    returning: str


Statement: TypeAlias = Select | Exists | Insert | Update | Delete


@dataclass(frozen=True, slots=True)
class Parsed:
    """A statement with what its request has to bring.

    Attributes:
        statement: the statement.
        templates: the values that have parameters.
        parameters: how many question marks it has.
    """

    statement: Statement
    templates: tuple[Template, ...]
    parameters: int

    @property
    def reads(self) -> bool:
        """Whether it is a read; EXISTS goes with writes."""
        return isinstance(self.statement, Select)
