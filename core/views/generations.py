"""The tables of a view: one set for each time that it was built, only one of them read.

A view is built into tables that nobody sees, under names with the number of the build, its
generation: `orders_by_day~2`, and `orders_by_day~2~values` where an aggregate keeps what it needs
to take back what it added. When the rows are whole, the view's name passes to the new table (the
swap), and what belongs to older generations is removed.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

from streamtable.core.documents import (
    ACTIVE,
    CREATING,
    DELETING,
    PAY_PER_REQUEST,
    IndexDocument,
    KeyElement,
    StreamDocument,
    TableDocument,
    ViewDocument,
)
from streamtable.core.errors import ValidationError
from streamtable.core.limits import GLOBAL_INDEXES
from streamtable.core.operations.create_table import plan_create_table
from streamtable.core.operations.table_settings import new_stream

__all__ = [
    "VALUES",
    "VALUE_KEY",
    "Leftover",
    "find_leftovers",
    "plan_generation",
    "plan_placeholder",
    "plan_swap",
    "plan_values",
]

VALUES: Final = "values"
"""The part with the values from which an aggregate takes back what it added."""

VALUE_KEY: Final = "_value"
"""Name of the binary sort key of that part."""

# What users set on a view is kept when it is built anew.
_KEPT: Final = (
    "tags",
    "policy",
    "deletion_protection",
    "table_class",
    "table_class_changed",
    "encrypted",
    "encryption_key",
    "insights",
)
# More builds than that within the day for which the log has their changes are none to care for.
_FORMER_IDS: Final = 100


def plan_generation(
    view: ViewDocument,
    body: dict[str, Any],
    current: TableDocument | None,
    *,
    region: str,
    account: str,
    now: float,
    new_id: Callable[[], str],
) -> TableDocument:
    """Return the document of a table in which a view is built, or keeps what it needs.

    The table of the rows has the indexes that users have added to the view, too.

    Args:
        view: the view, its generation and the part that the table is for.
        body: what the app declares, a CreateTable request; its shape is validated, and it names
            the view.
        current: the table that the view has now.
        region: part of the table's ARN.
        account: part of the table's ARN.
        now: seconds since 1970.
        new_id: makes a UUID for the table and each index.

    Raises:
        ValidationError: one of DynamoDB's rules is broken, or an index that a user has added does
            not fit what the app declares now.
    """
    if "BillingMode" not in body and "ProvisionedThroughput" not in body:
        body = {**body, "BillingMode": PAY_PER_REQUEST}
    document = plan_create_table(
        body, region=region, account=account, now=now, delay_s=0, new_id=new_id
    )
    stream = document.stream
    view = view.model_copy(
        update={
            "indexes": tuple(index.name for index in document.indexes),
            "stream": None if stream is None else stream.view_type,
        }
    )
    changes: dict[str, Any] = {"name": view.built_as, "hidden": True, "streams": (), "view": view}
    document = document.model_copy(update=changes)
    if view.part or current is None:
        return document
    added = [_copy(index, new_id()) for index in _added(current, document)]
    return _with_indexes(document, (*document.indexes, *added), current)


def plan_placeholder(document: TableDocument, new_id: Callable[[], str]) -> TableDocument:
    """Return what stands for a view that is built for the first time: a table being created.

    Args:
        document: the table of the first generation.
        new_id: makes a UUID for the placeholder and each index; all of them go at the swap.
    """
    assert document.view is not None
    view = document.view.model_copy(update={"generation": 0, "values_id": None})
    changes = {
        "name": view.name,
        "id": new_id(),
        "indexes": tuple(_copy(index, new_id()) for index in document.indexes),
        "status": CREATING,
        "hidden": False,
        "view": view,
    }
    return document.model_copy(update=changes)


def plan_values(document: TableDocument, table_id: str) -> TableDocument:
    """Return the table with the values of an aggregate's groups.

    Its keys are the partition key of the groups and a binary sort key, in which the rest of a
    group's key comes first.

    Args:
        document: the table with the groups.
        table_id: UUID of the table.

    Raises:
        ValidationError: the groups' key has an attribute of that name.
    """
    assert document.view is not None
    if VALUE_KEY in document.attributes:
        raise ValidationError(
            f"{document.view.name}: {VALUE_KEY} is a name that aggregates need for themselves"
        )
    partition = [key for key in document.keys if key.kind == "HASH"]
    view = document.view.model_copy(
        update={"part": VALUES, "values_id": None, "indexes": (), "stream": None}
    )
    changes: dict[str, Any] = {
        "name": view.built_as,
        "id": table_id,
        "keys": (*partition, KeyElement(name=VALUE_KEY, kind="RANGE")),
        "attributes": {
            **{key.name: document.attributes[key.name] for key in partition},
            VALUE_KEY: "B",
        },
        "indexes": (),
        "view": view,
    }
    return document.model_copy(update=changes)


def plan_swap(
    built: TableDocument, current: TableDocument, *, now: float, new_id: Callable[[], str]
) -> TableDocument:
    """Return the document with which a built table gets the view's name.

    What users have set on the view stays set: tags, policy, protection, indexes that they have
    added. Copies of its changes go on with the new table's. Its stream starts anew, as that of a
    new table does.

    Args:
        built: the table with the new generation's rows.
        current: the table that has the name.
        now: seconds since 1970.
        new_id: makes a UUID for each index that was added meanwhile; it is filled yet.
    """
    view, before = built.view, current.view
    assert view is not None
    assert before is not None
    changes: dict[str, Any] = {name: getattr(current, name) for name in _KEPT}
    changes.update(name=view.name, hidden=False, status=ACTIVE, status_until=None)
    changes["streams"] = _streams(view, current, now)
    changes["destinations"] = tuple(
        each.model_copy(update={"former_ids": (*each.former_ids, current.id)[-_FORMER_IDS:]})
        for each in current.destinations
    )
    names = {index.name for index in current.indexes}
    kept = [i for i in built.indexes if i.name in view.indexes or i.name in names]
    new = [
        _copy(index, new_id()).model_copy(update={"status": CREATING, "backfilling": True})
        for index in _added(current, built)
    ]
    document = built.model_copy(update=changes)
    return _with_indexes(document, (*kept, *new), current)


class Leftover(NamedTuple):
    """A table of a view that has no use any more.

    Attributes:
        name: its name.
        how: "forget": the table has another name and stays; "delete": it goes with its rows.
    """

    name: str
    how: Literal["forget", "delete"]


def find_leftovers(documents: Iterable[TableDocument]) -> list[Leftover]:
    """Return what is left of older generations, of views that were deleted, and of swaps."""
    found = list(documents)
    views = {document.name: document for document in found if not document.hidden}
    leftovers = []
    for document in found:
        view = document.view
        if view is None or not document.hidden:
            continue
        current = views.get(view.name)
        if current is None or current.view is None or current.view.app != view.app:
            leftovers.append(Leftover(document.name, "delete"))
        elif current.id == document.id:
            leftovers.append(Leftover(document.name, "forget"))
        elif view.generation < current.view.generation or (
            view.generation == current.view.generation and not view.part
        ):
            leftovers.append(Leftover(document.name, "delete"))
    return leftovers


def _added(current: TableDocument, new: TableDocument) -> list[IndexDocument]:
    """The indexes that users have added to a view, and a new table of it has not."""
    assert current.view is not None
    known = {*current.view.indexes, *(index.name for index in new.indexes)}
    return [
        index for index in current.indexes if index.name not in known and index.status != DELETING
    ]


def _copy(index: IndexDocument, index_id: str) -> IndexDocument:
    return index.model_copy(update={"id": index_id, "status": ACTIVE, "backfilling": False})


def _with_indexes(
    document: TableDocument, indexes: tuple[IndexDocument, ...], current: TableDocument
) -> TableDocument:
    """Return a table with these indexes; the types of keys that it lacks are those of another.

    Raises:
        ValidationError: they don't go together.
    """
    keys = [*document.keys, *(key for index in indexes for key in index.keys)]
    known = {**current.attributes, **document.attributes}
    declared = () if document.view is None else document.view.indexes
    for index in indexes:
        for name in (key.name for key in index.keys if index.name not in declared):
            here, there = document.attributes.get(name), current.attributes[name]
            if here not in (None, there):
                raise ValidationError(
                    f"{document.name}: {name} has the type {there} in the index {index.name}, "
                    f"which was added to the view, and {here} in what the app declares: delete "
                    "the index"
                )
    if sum(index.scope == "GLOBAL" for index in indexes) > GLOBAL_INDEXES:
        raise ValidationError(
            f"{document.name}: the indexes that the app declares and those that were added to the "
            f"view are more than {GLOBAL_INDEXES}: delete some"
        )
    attributes = {key.name: known[key.name] for key in keys}
    return document.model_copy(update={"indexes": indexes, "attributes": attributes})


def _streams(view: ViewDocument, current: TableDocument, now: float) -> tuple[StreamDocument, ...]:
    """The stream with which a generation starts."""
    before = current.view
    assert before is not None
    wanted = view.stream
    if before.generation and before.stream == view.stream:
        # The declaration is as it was: what users have made of it counts.
        wanted = None if current.stream is None else current.stream.view_type
    return () if wanted is None else (new_stream(wanted, now, current.streams),)
