"""Views, aggregates and joins: tables whose rows a function makes of other tables' items."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

from streamtable.core.errors import ValidationError
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.core.limits import GLOBAL_INDEXES
from streamtable.core.plain import wire_item
from streamtable.core.values import Item, check_item_size, item_size
from streamtable.triggers.errors import InvalidDeclaration, InvalidHandler, InvalidRow
from streamtable.triggers.fingerprints import code_fingerprint, fingerprint
from streamtable.triggers.item_types import ItemType, dump_plain
from streamtable.triggers.measures import Measure
from streamtable.triggers.names import check_table, check_view_name, parse_key
from streamtable.triggers.signatures import Signature

__all__ = [
    "Aggregate",
    "AnyView",
    "Index",
    "Join",
    "JoinKind",
    "OnError",
    "RowsTable",
    "StreamView",
    "View",
    "make_aggregate",
    "make_join",
    "make_view",
]

StreamView: TypeAlias = Literal["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]
JoinKind: TypeAlias = Literal["inner", "left"]
OnError: TypeAlias = Literal["stop", "deadletter"]

_ROWS: Final = 1000
_PROJECTIONS: Final = ("ALL", "KEYS_ONLY")
_NULL: Final = {"NULL": True}
_NUMERIC: Final = frozenset({"count", "sum", "avg", "distinct"})


@dataclass(frozen=True, slots=True)
class Index:
    """A global secondary index of a view.

    Attributes:
        name: the index's name.
        key: the partition key, or the partition key and the sort key.
        projection: ALL, KEYS_ONLY, or the names of the attributes that it has besides the keys.
    """

    name: str
    key: str | tuple[str, ...]
    projection: Literal["ALL", "KEYS_ONLY"] | tuple[str, ...] = "ALL"


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What views, aggregates and joins have in common: the table of their rows.

    Attributes:
        name: the table's name; the view is known by it in its app too.
        sources: the tables that it follows.
        keys: the key of its rows.
        types: S, N or B by name, for key attributes of the table and its indexes.
        indexes: its global secondary indexes.
        stream: the view type of its stream, None without one.
        function: makes rows.
        on_error: what becomes of an item for which the function fails: "stop": the view stops
            there; "deadletter": the item has no rows, its change goes to the dead letters.
        was: the name that it had before.
    """

    name: str
    sources: tuple[str, ...]
    keys: KeySchema
    types: Mapping[str, str]
    indexes: tuple[Index, ...]
    stream: StreamView | None
    function: Callable[..., Any] = field(compare=False)
    on_error: OnError = "stop"
    was: str | None = None
    kind: ClassVar[str] = ""

    def create_table(self) -> dict[str, Any]:
        """Return the body of the CreateTable request that makes the table of its rows."""
        attributes = {attribute.name: attribute.type for attribute in self.keys.attributes}
        indexes = []
        for index in self.indexes:
            keys = parse_key(index.key, self.types)
            attributes.update((attribute.name, attribute.type) for attribute in keys.attributes)
            indexes.append(
                {
                    "IndexName": index.name,
                    "KeySchema": _key_schema(keys),
                    "Projection": _projection(index),
                }
            )
        body: dict[str, Any] = {
            "TableName": self.name,
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind} for name, kind in attributes.items()
            ],
            "KeySchema": _key_schema(self.keys),
            "BillingMode": "PAY_PER_REQUEST",
        }
        if indexes:
            body["GlobalSecondaryIndexes"] = indexes
        if self.stream is not None:
            body["StreamSpecification"] = {
                "StreamEnabled": True,
                "StreamViewType": self.stream,
            }
        return body

    def definition(self) -> dict[str, Any]:
        """Return what the app declared, as JSON.

        `fingerprint` is another one when `shape` is, `code` when the function's source is: rows
        that were made before then are not what the view would make now.
        """
        shape = self.shape()
        return {
            **shape,
            "table": self.create_table(),
            "on_error": self.on_error,
            "fingerprint": fingerprint(shape),
            "code": self.code,
        }

    @property
    def code(self) -> str:
        """The fingerprint of the function's source; empty where there is no source."""
        return code_fingerprint(self.function) or ""

    def shape(self) -> dict[str, Any]:
        """Return, as JSON, what the rows depend on besides the function's code."""
        return {
            "kind": self.kind,
            "sources": list(self.sources),
            "key": [[attribute.name, attribute.type] for attribute in self.keys.attributes],
        }

    @cached_property
    def _index_keys(self) -> tuple[tuple[str, KeySchema], ...]:
        """The indexes' names and keys, of which a row may lack some."""
        return tuple((index.name, parse_key(index.key, self.types)) for index in self.indexes)

    def _row(self, made: Any) -> Item:
        """Check what the function made and return it as a row."""
        plain = dump_plain(made)
        if type(plain) is not dict and not isinstance(plain, Mapping):
            raise InvalidRow(
                f"the function of {self.name} returned {made!r}: a row is a dict or a model"
            )
        try:
            row = wire_item(plain)
            self.keys.key_of_item(row)
            for name, keys in self._index_keys:
                # A model without a value has None: then the row is not in the index.
                there = {
                    each: row[each] for each in keys.names if "NULL" not in row.get(each, _NULL)
                }
                keys.check_index_key(there, name)
            check_item_size(item_size(row))
        except (TypeError, ValidationError) as error:
            raise InvalidRow(
                f"the function of {self.name} returned {made!r}, which is no row: {error}"
            ) from error
        return row

    def _rows(self, made: Any) -> Iterator[Item]:
        """Yield the rows that the function made: none, one or many."""
        if made is None:
            return
        # What is usual does not have to be asked whether it is an iterator.
        if type(made) is not dict and isinstance(made, (list, tuple, set, Iterator)):
            for number, one in enumerate(made):
                if number == _ROWS:
                    raise InvalidRow(
                        f"the function of {self.name} made more than {_ROWS} rows of one item"
                    )
                yield self._row(one)
        else:
            yield self._row(made)


@dataclass(frozen=True, kw_only=True)
class View(_Table):
    """A table with the rows that a function makes of each item of another table.

    Attributes:
        item: makes the function's argument of an item.
    """

    item: ItemType = field(compare=False)
    kind: ClassVar[str] = "view"

    def rows(self, item: Item) -> list[Item]:
        """Return the rows of an item, in wire form.

        Raises:
            InvalidRow: the function returned something that is no row, or two rows of one key.
            Exception: the function raised, or the item does not fit its model.
        """
        made = list(self._rows(self.function(self.item.read(item))))
        if len(made) > 1 and len({_identity(self.keys, row) for row in made}) != len(made):
            raise InvalidRow(f"the function of {self.name} made two rows of the same key: {made!r}")
        return made


@dataclass(frozen=True, kw_only=True)
class Aggregate(_Table):
    """A table with a row for each group of contributions, which a function makes of the items.

    Attributes:
        item: makes the function's argument of an item.
        measures: by name, what a row says about its group.
    """

    item: ItemType = field(compare=False)
    measures: Mapping[str, Measure]
    kind: ClassVar[str] = "aggregate"

    def shape(self) -> dict[str, Any]:
        """Return, as JSON, what the rows depend on besides the function's code."""
        measures = {name: each.definition() for name, each in self.measures.items()}
        return {**super().shape(), "measures": measures}

    @cached_property
    def _index_keys(self) -> tuple[tuple[str, KeySchema], ...]:
        """None: they are of measures, and a contribution is no row."""
        return ()

    def rows(self, item: Item) -> list[Item]:
        """Return what an item contributes, in wire form: each with its group's key.

        Raises:
            InvalidRow: the function returned something that is none.
            Exception: the function raised, or the item does not fit its model.
        """
        return list(self._rows(self.function(self.item.read(item))))


@dataclass(frozen=True, kw_only=True)
class Join(_Table):
    """A table with the rows that a function makes of items of two tables that belong together.

    Its sources are the left and the right table, in this order.

    Attributes:
        on: the attribute of the left item and the attribute of the right item that are equal.
        join_kind: "inner": a left item without a right one makes no row; "left": the function is
            called with None for it.
        left_item: makes the function's first argument of an item.
        right_item: makes its second one.
    """

    on: tuple[str, str]
    join_kind: JoinKind
    left_item: ItemType = field(compare=False)
    right_item: ItemType = field(compare=False)
    kind: ClassVar[str] = "join"

    def shape(self) -> dict[str, Any]:
        """Return, as JSON, what the rows depend on besides the function's code."""
        return {**super().shape(), "on": list(self.on), "join_kind": self.join_kind}

    def pairs(self, left: Item, right: Item | None) -> list[Item]:
        """Return the rows of a pair in wire form.

        Args:
            left: the left item, in wire form.
            right: the right item that meets it; None where there is none, which makes no rows
                unless `join_kind` is "left".

        Raises:
            InvalidRow: the function returned something that is no row.
            Exception: the function raised, or an item does not fit its model.
        """
        if right is None and self.join_kind == "inner":
            return []
        made = self.function(
            self.left_item.read(left), None if right is None else self.right_item.read(right)
        )
        return list(self._rows(made))


AnyView: TypeAlias = View | Aggregate | Join


@dataclass(frozen=True, kw_only=True)
class RowsTable:
    """What an app says about the table of a view's rows; see `App.view`."""

    key: str | Iterable[str]
    types: Mapping[str, str] | None = None
    indexes: Iterable[Index] = ()
    stream: StreamView | None = "NEW_AND_OLD_IMAGES"
    on_error: OnError = "stop"
    was: str | None = None


def make_view(name: str, function: Callable[..., Any], *, source: str, table: RowsTable) -> View:
    """Check a view's declaration; see `App.view`."""
    return View(**_common(name, function, (source,), table), item=_item_types(function, name, 1)[0])


def make_aggregate(
    name: str,
    function: Callable[..., Any],
    *,
    source: str,
    measures: Mapping[str, Measure],
    table: RowsTable,
) -> Aggregate:
    """Check an aggregate's declaration; see `App.aggregate`."""
    if not measures:
        raise InvalidDeclaration(
            f'{name}: an aggregate has measures, for example measures={{"orders": Count()}}'
        )
    for each, measure in measures.items():
        if not isinstance(measure, Measure):
            raise InvalidDeclaration(
                f"{name}: {each}={measure!r} is no measure: Count(), Sum, Avg, Min, Max, Distinct "
                "or Top"
            )
    numbers = {each: "N" for each, measure in measures.items() if measure.kind in _NUMERIC}
    common = _common(name, function, (source,), table, numbers)
    for each in measures:
        if each in common["keys"].names or each.startswith("_") or not each:
            raise InvalidDeclaration(
                f"{name}: {each!r} can't be a measure: it is not a key attribute, and does not "
                "begin with _"
            )
    return Aggregate(**common, item=_item_types(function, name, 1)[0], measures=dict(measures))


def make_join(
    name: str,
    function: Callable[..., Any],
    *,
    left: str,
    right: str,
    on: tuple[str, str] | str,
    join_kind: JoinKind,
    table: RowsTable,
) -> Join:
    """Check a join's declaration; see `App.join`."""
    pair = (on, on) if isinstance(on, str) else tuple(on)
    if len(pair) != 2 or not all(pair):
        raise InvalidDeclaration(
            f"{name}: on={on!r}: name the attribute of {left} and the attribute of {right} that "
            "are equal"
        )
    if join_kind not in get_args(JoinKind):
        raise InvalidDeclaration(f'{name}: kind={join_kind!r} is "inner" or "left"')
    if left == right:
        raise InvalidDeclaration(f"{name}: {left} can't be joined with itself")
    left_item, right_item = _item_types(function, name, 2)
    common = _common(name, function, (left, right), table)
    if not {*pair} & {*common["keys"].names}:
        raise InvalidDeclaration(
            f"{name}: key={table.key!r} has neither {pair[0]!r} of {left} nor {pair[1]!r} of "
            f"{right}. One attribute of a join's key must be what the items are joined on, under "
            "one of these names: the rows of an item that is joined with another one later come "
            "from two logs, and with one key for both the older could win"
        )
    return Join(
        **common,
        on=(pair[0], pair[1]),
        join_kind=join_kind,
        left_item=left_item,
        right_item=right_item,
    )


def _common(
    name: str,
    function: Callable[..., Any],
    sources: tuple[str, ...],
    table: RowsTable,
    measured: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Check what all views have and return it; `measured` are types of what is no string."""
    check_view_name(name)
    if table.was is not None:
        check_view_name(table.was)
    for source in sources:
        check_table(source)
    if name in sources:
        raise InvalidDeclaration(f"the view {name} can't have itself as its source")
    if table.on_error not in get_args(OnError):
        raise InvalidDeclaration(f'{name}: on_error={table.on_error!r} is "stop" or "deadletter"')
    if table.stream is not None and table.stream not in get_args(StreamView):
        raise InvalidDeclaration(
            f"{name}: stream={table.stream!r} is None or one of {', '.join(get_args(StreamView))}"
        )
    types = {**(measured or {}), **(table.types or {})}
    indexes = tuple(table.indexes)
    _check_indexes(name, indexes)
    keys = parse_key(table.key, types)
    used = set(keys.names)
    for index in indexes:
        used.update(parse_key(index.key, types, what=f"{index.name}.key").names)
    unused = sorted({*(table.types or {})} - used)
    if unused:
        raise InvalidDeclaration(
            f"{name}: types names {unused[0]!r}, which is in no key: types are for the attributes "
            f"of keys, here {', '.join(sorted(used))}"
        )
    return {
        "name": name,
        "sources": sources,
        "keys": keys,
        "types": {each: kind for each, kind in types.items() if each in used},
        "indexes": indexes,
        "stream": table.stream,
        "function": function,
        "on_error": table.on_error,
        "was": table.was,
    }


def _check_indexes(name: str, indexes: tuple[Index, ...]) -> None:
    if len(indexes) > GLOBAL_INDEXES:
        raise InvalidDeclaration(
            f"{name}: {len(indexes)} indexes, and a table can have {GLOBAL_INDEXES}"
        )
    if len({index.name for index in indexes}) != len(indexes):
        raise InvalidDeclaration(f"{name}: two indexes have the same name")
    for index in indexes:
        check_table(index.name, "an index")
        if isinstance(index.projection, str) and index.projection not in _PROJECTIONS:
            raise InvalidDeclaration(
                f"{name}: projection={index.projection!r} of {index.name} is "
                f"{' or '.join(map(repr, _PROJECTIONS))}, or the names of attributes, as a tuple"
            )


def _item_types(function: Callable[..., Any], name: str, count: int) -> list[ItemType]:
    signature = Signature.read(function)
    if signature.is_async:
        raise InvalidHandler(
            f"{signature.name} is async: the function of {name} makes rows of an item, it does "
            "not wait for anything"
        )
    if not signature.takes(count):
        what = "one item" if count == 1 else "the left item and the right item"
        raise InvalidHandler(f"{signature.name}{signature.text} must take {what}")
    return [ItemType(each, signature.name) for each in signature.annotations[:count]]


def _identity(keys: KeySchema, row: Item) -> tuple[str, ...]:
    # A canonical value has one text, so that the texts of two keys are equal when the keys are.
    return tuple(next(iter(row[name].values())) for name in keys.names)


def _key_schema(keys: KeySchema) -> list[dict[str, str]]:
    def elements(attributes: tuple[KeyAttribute, ...], kind: str) -> list[dict[str, str]]:
        return [{"AttributeName": each.name, "KeyType": kind} for each in attributes]

    return elements(keys.partition, "HASH") + elements(keys.sort, "RANGE")


def _projection(index: Index) -> dict[str, Any]:
    if isinstance(index.projection, str):
        return {"ProjectionType": index.projection}
    return {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(index.projection)}
