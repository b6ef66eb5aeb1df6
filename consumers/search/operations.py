"""From changes of items, and rows of snapshots, to operations on documents."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamtable.consumers.search.bulk import Operation, Rejection
from streamtable.consumers.search.documents import document_id, item_json
from streamtable.consumers.search.spec import SearchSpec
from streamtable.core.changes import INSERT, MODIFY, REMOVE, Change, decode_wanted
from streamtable.core.positions import Position
from streamtable.core.values import Item
from streamtable.streams.records import LogRecord

__all__ = ["Subject", "make_operation", "subject_of", "subjects_of"]

_EVENTS: Final = frozenset({INSERT, MODIFY, REMOVE})


@dataclass(slots=True)
class Subject:
    """What an operation is made of.

    Attributes:
        keys: the item's key attributes, the partition key first.
        item: the item, None where it was removed.
        version: the time of the item's version.
        position: where that is in the log.
        change: returns it as a change.
    """

    keys: Item
    item: Item | None
    version: int
    position: Position
    change: Callable[[], Change]


def subject_of(change: Change, position: Position) -> Subject:
    """Return what an operation is made of, from a change of the log."""
    item = None if change.new is None else change.new.item
    return Subject(change.keys, item, change.time, position, lambda: change)


def subjects_of(record: LogRecord, table: str) -> list[Subject]:
    """Return what operations are made of, from a commit: the changes of one table, in order."""
    return [
        subject_of(change, Position(record.shard, record.offset, index))
        for index, change in decode_wanted(record.value, table, _EVENTS)
    ]


def make_operation(
    spec: SearchSpec, subject: Subject, done: Callable[[], None]
) -> tuple[Operation, Rejection | None]:
    """Return the operation that brings a version of an item into the index, or out of it.

    With it comes why it can't be carried out, where the app's function does not make a document:
    then it is to be rejected, not sent.
    """
    document, rejection = None, None
    if subject.item is not None:
        try:
            document = item_json(subject.item, spec.make)
        except Exception as error:  # noqa: BLE001 - whatever the app's function raises
            rejection = Rejection(type(error).__name__, str(error), traceback.format_exc())
    operation = Operation(
        document_id(subject.keys),
        subject.version,
        document,
        shard=subject.position.shard,
        subject=subject,
        done=done,
    )
    return operation, rejection
