"""From a change of an item to operations on a view: the rows before and after, compared.

An item's rows follow from the item alone. So what a change does to the view follows from its two
images: the rows of the old one that the new one has not are deleted, new and different ones are
put, and rows that stay as they are cost nothing.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from streamtable.consumers.views.operations import (
    GroupOperation,
    Operation,
    delete_row,
    put_row,
)
from streamtable.consumers.views.specs import ViewSpec
from streamtable.core.errors import StreamtableError
from streamtable.core.keys import KeySchema
from streamtable.core.values import Item

__all__ = [
    "AggregateMapper",
    "Guard",
    "InvalidRows",
    "Mapper",
    "MappingFailed",
    "Planned",
    "Row",
    "RowMapper",
    "compare_rows",
    "locate_rows",
    "mapper_of",
]

T = TypeVar("T")

_NO_ROWS: Final[dict[bytes, "Row"]] = {}


class MappingFailed(StreamtableError):
    """A view's function raised, or returned what can't be rows; `__cause__` says why.

    Attributes:
        view: `APP/NAME` of the view.
    """

    def __init__(self, view: str, cause: BaseException) -> None:
        super().__init__(f"{view}: {type(cause).__name__}: {cause}")
        self.view = view
        self.__cause__ = cause


class InvalidRows(StreamtableError, ValueError):
    """A function returned rows that the view can't have."""


class Row(NamedTuple):
    """A row of a view, located.

    Attributes:
        hash: of its partition key.
        key: its key attributes.
        item: all of it.
    """

    hash: int
    key: Item
    item: Item


class Planned(NamedTuple):
    """What a change does to a view.

    Attributes:
        operations: on its rows or groups.
        failure: why the new image has no rows, where the view goes on without them.
    """

    operations: list[Operation]
    failure: MappingFailed | None = None


class Mapper(Protocol):
    """Makes operations of changes."""

    def plan(self, source: str, old: Item | None, new: Item | None) -> Planned:
        """Return what a change of an item does to the view.

        Args:
            source: the name of the item's table.
            old: the item before, None if there was none.
            new: the item after, None if there is none.

        Raises:
            MappingFailed: the function failed, and the view is to stop then.
        """


def mapper_of(spec: ViewSpec) -> Mapper:
    """Return the mapper of a view or an aggregate."""
    if spec.kind == "aggregate":
        return AggregateMapper(spec)
    return RowMapper(spec)


def locate_rows(keys: KeySchema, rows: Sequence[Item]) -> dict[bytes, Row]:
    """Return rows that the view can have by their encoded key.

    Raises:
        InvalidRows: two rows have one key.
    """
    found: dict[bytes, Row] = {}
    for item in rows:
        key = keys.extract(item)
        hash_, row_key = keys.locate(b"", key)
        if row_key in found:
            raise InvalidRows(f"two rows of one item have the key {key}")
        found[row_key] = Row(hash_, key, item)
    return found


def compare_rows(before: dict[bytes, Row], after: dict[bytes, Row]) -> list[Operation]:
    """Return what makes the rows `before` be those `after`."""
    operations: list[Operation] = [
        delete_row(row.hash, row_key, row.key)
        for row_key, row in before.items()
        if row_key not in after
    ]
    for row_key, row in after.items():
        known = before.get(row_key)
        if known is None or known.item != row.item:
            operations.append(put_row(row.hash, row_key, row.item))
    return operations


class RowMapper:
    """Makes operations on the rows of a view.

    Args:
        spec: the view; it has `rows`.
    """

    def __init__(self, spec: ViewSpec) -> None:
        assert spec.rows is not None
        self._keys = spec.keys
        self._guard = Guard(spec)
        self._function = spec.rows

    def plan(self, source: str, old: Item | None, new: Item | None) -> Planned:
        """Return what a change from one image to another does to the view.

        Raises:
            MappingFailed: the function failed, and the view is to stop then.
        """
        del source  # it has one
        before, _ = self._rows(old)
        after, failure = self._rows(new)
        return Planned(compare_rows(before, after), failure)

    def _rows(self, item: Item | None) -> tuple[dict[bytes, Row], MappingFailed | None]:
        if item is None:
            return _NO_ROWS, None
        found, failure = self._guard.call(lambda: locate_rows(self._keys, self._function(item)))
        return found or _NO_ROWS, failure


class AggregateMapper:
    """Makes operations on the groups of an aggregate.

    Args:
        spec: the aggregate; it has `rows` and `measures`.
    """

    def __init__(self, spec: ViewSpec) -> None:
        assert spec.rows is not None
        self._keys = spec.keys
        self._measures = spec.measures
        self._guard = Guard(spec)
        self._function = spec.rows

    def plan(self, source: str, old: Item | None, new: Item | None) -> Planned:
        """Return what a change from one image to another does to the aggregate.

        Raises:
            MappingFailed: the function failed, and the aggregate is to stop then.
        """
        del source  # it has one
        groups: dict[bytes, GroupOperation] = {}
        before, _ = self._contributions(old, -1)
        after, failure = self._contributions(new, 1)
        for operation in (*before, *after):
            total = groups.setdefault(operation.key, operation)
            if total is not operation:
                total.add(operation)
        return Planned([group for group in groups.values() if not group.empty], failure)

    def _contributions(
        self, item: Item | None, sign: int
    ) -> tuple[list[GroupOperation], MappingFailed | None]:
        if item is None:
            return [], None
        found, failure = self._guard.call(lambda: self._contribute(item, sign))
        return found or [], failure

    def _contribute(self, item: Item, sign: int) -> list[GroupOperation]:
        found = []
        for row in self._function(item):
            key = self._keys.extract(row)
            operation = GroupOperation(*self._keys.locate(b"", key), key)
            operation.contribute(row, self._measures, sign)
            found.append(operation)
        return found


class Guard:
    """Calls a view's function; decides what an error means.

    Args:
        spec: the view.
    """

    def __init__(self, spec: ViewSpec) -> None:
        self._view = spec.key
        self._goes_on = spec.on_error == "deadletter"

    def call(self, function: Callable[[], T]) -> tuple[T | None, MappingFailed | None]:
        """Return what a function returns, or why it failed.

        Raises:
            MappingFailed: it failed, and the view is to stop then.
        """
        try:
            return function(), None
        # A function that exits has not mapped its item either.
        except (Exception, SystemExit) as error:
            failure = MappingFailed(self._view, error)
            if not self._goes_on:
                raise failure from error
            return None, failure
