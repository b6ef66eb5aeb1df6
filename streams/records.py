"""The records of the change log: what a Kafka record of `{region}.changelog` holds.

The value is JSON. The headers say what the record is without parsing it: `kind` (barrier, commit
or split), `epoch` (the writer's), and for a commit `tables`, the names of the tables it touches,
so that a consumer passes over what is not its own. A record of a later format than the first has
it in `v`, see `streams.formats`; one that carries traced requests has `traceparent`.

A split is where the shard's items are shared out among more shards, if the catalog says so in the
end. It counts by the same rule as a commit, and carries no change.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from streamtable.core.changes import Change, decode_changes, decode_wanted, encode_changes
from streamtable.core.errors import StreamtableError
from streamtable.streams.epochs import BARRIER, SPLIT
from streamtable.streams.formats import CHANGELOG, HEADER, SPLITS, check_format
from streamtable.streams.traces import TRACE

__all__ = [
    "COMMIT",
    "Headers",
    "LogRecord",
    "SplitMark",
    "UnknownRecord",
    "barrier",
    "commit",
    "encoded_commit",
    "split",
]

COMMIT: Final = "commit"

_KINDS: Final = {kind.encode(): kind for kind in (COMMIT, BARRIER, SPLIT)}
_MOST_NAMES: Final = 1024

Headers: TypeAlias = list[tuple[str, bytes]]


class SplitMark(NamedTuple):
    """What a split record says.

    Attributes:
        offset: its offset.
        attempt: id of the attempt to change the number of shards.
        catalog: who has read the catalog up to this offset knows of the attempt.
    """

    offset: int
    attempt: str
    catalog: int


class UnknownRecord(StreamtableError, ValueError):
    """A record of the change log that this version of streamtable can't read."""


@dataclass(slots=True)
class LogRecord:
    """One record of a shard's log, its headers read, its value not parsed yet. Never changed.

    Attributes:
        shard: number of the shard (the Kafka partition).
        offset: offset in it.
        timestamp_ms: the clock of the broker, or of the producer on the embedded broker.
        kind: `BARRIER`, `COMMIT` or `SPLIT`.
        epoch: the writer's epoch.
        tables: names of the tables that a commit touches.
        value: JSON, UTF-8.
        trace: the step of a trace that appended it, see `streams.traces`; None without one.
    """

    shard: int
    offset: int
    timestamp_ms: int
    kind: str
    epoch: str
    tables: frozenset[str]
    value: bytes
    trace: str | None = None

    @classmethod
    def read(
        cls,
        shard: int,
        offset: int,
        timestamp_ms: int,
        headers: Iterable[tuple[str, bytes]],
        value: bytes | None,
    ) -> "LogRecord":
        """Read a Kafka record's headers.

        Raises:
            NewerFormat: it is of a newer format than this version knows.
            UnknownRecord: its headers are not those of a change log.
        """
        found = dict(headers)
        if HEADER in found:
            check_format(found.items(), CHANGELOG, "the change log", shard, offset)
        named = found.get("kind", b"")
        kind = _KINDS.get(named)
        if kind is None or "epoch" not in found or value is None:
            raise UnknownRecord(
                f"shard {shard} has a record at offset {offset} of kind {named.decode()!r} that "
                "this version of streamtable does not know. Was it written by a newer version?"
            )
        return cls(
            shard,
            offset,
            timestamp_ms,
            kind,
            found["epoch"].decode(),
            _table_names(found.get("tables", b"")),
            value,
            found[TRACE].decode("latin-1") if TRACE in found else None,
        )

    @classmethod
    def from_consumer(cls, record: Any) -> "LogRecord":
        """Read an aiokafka ConsumerRecord; errors are those of `read`."""
        return cls.read(
            record.partition, record.offset, record.timestamp, record.headers, record.value
        )

    def split(self) -> SplitMark:
        """What a split says."""
        found = orjson.loads(self.value)
        return SplitMark(self.offset, found["attempt"], found["catalog"])

    def changes(self) -> list[Change]:
        """The changes of a commit, in order."""
        return self.contents()[0]

    def wanted(self, table: str, events: Iterable[str]) -> list[tuple[int, Change]]:
        """The changes of a commit that are of this table and of these kinds, with their indexes.

        The others are not parsed.
        """
        found = decode_wanted(self.value, table, events)
        if self.trace is not None:
            for _, change in found:
                change.trace = self.trace
        return found

    def contents(self) -> tuple[list[Change], list[dict[str, Any]]]:
        """The changes of a commit and its transactions' entries, in order."""
        found = decode_changes(self.value)
        if self.trace is not None:
            for change in found[0]:
                change.trace = self.trace
        return found


@lru_cache(_MOST_NAMES)
def _table_names(joined: bytes) -> frozenset[str]:
    return frozenset(joined.decode().split(",")) if joined else frozenset()


def commit(
    epoch: str, changes: Iterable[Change], entries: list[dict[str, Any]]
) -> tuple[bytes, Headers]:
    """Return value and headers of the record that carries `changes`.

    Args:
        epoch: the writer's epoch.
        changes: what becomes visible with this record.
        entries: what it notes about transactions, see `streams.ledger`.
    """
    tables = dict.fromkeys(change.table for change in changes)
    return encoded_commit(epoch, tables, b",".join(change.encode() for change in changes), entries)


def encoded_commit(
    epoch: str, tables: Iterable[str], changes: bytes | bytearray, entries: list[dict[str, Any]]
) -> tuple[bytes, Headers]:
    """Return what `commit` returns, from changes that are encoded and their tables' names."""
    headers = [
        ("kind", COMMIT.encode()),
        ("epoch", epoch.encode()),
        ("tables", ",".join(tables).encode()),
    ]
    return encode_changes(changes, entries), headers


def barrier(epoch: str, details: dict[str, Any]) -> tuple[bytes, Headers]:
    """Return value and headers of the record that starts a term.

    Args:
        epoch: a fresh id that no other term has.
        details: for people: who started it, when.
    """
    headers = [("kind", BARRIER.encode()), ("epoch", epoch.encode())]
    return orjson.dumps(details), headers


def split(epoch: str, attempt: str, catalog: int) -> tuple[bytes, Headers]:
    """Return value and headers of the record at which a shard is split.

    Args:
        epoch: the writer's epoch.
        attempt: id of the attempt to change the number of shards.
        catalog: who has read the catalog up to this offset knows of the attempt.
    """
    headers = [
        ("kind", SPLIT.encode()),
        ("epoch", epoch.encode()),
        (HEADER, str(SPLITS).encode()),
    ]
    return orjson.dumps({"attempt": attempt, "catalog": catalog}), headers
