"""What a shard has materialized, in memory."""

from collections.abc import Iterator, Sequence
from typing import Any

from streamtable.core.images import Image
from streamtable.streams.epochs import SPLIT, EpochFilter
from streamtable.streams.overlay import Overlay
from streamtable.streams.records import LogRecord, SplitMark
from tests.streams.shards import TABLE

__all__ = ["MemoryState"]


class MemoryState:
    """A shard's rows in a dict, that outlives its node's process. Stands where the store stands."""

    def __init__(self) -> None:
        self.applied = -1
        self.split: SplitMark | None = None
        self.removed_at = 0
        self.rows: dict[bytes, Image] = {}
        self._epochs = EpochFilter()
        self._prepared: dict[str, dict[str, Any]] = {}
        self._decisions: dict[str, bool] = {}

    def get(self, row_key: bytes) -> Image | None:
        return self.rows.get(row_key)

    def get_many(self, row_keys: Sequence[bytes]) -> list[Image | None]:
        return [self.rows.get(row_key) for row_key in row_keys]

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Image]]:
        raise NotImplementedError

    def collection_bytes(self, _collection: bytes) -> int:
        return 0

    def entries(self) -> Iterator[dict[str, Any]]:
        return iter(list(self._prepared.values()))

    def decision(self, transaction: str) -> bool | None:
        return self._decisions.get(transaction)

    def indexed(self, _source: int) -> int:
        return -1

    async def until_writable(self) -> None:
        pass

    def apply(self, found: Sequence[LogRecord], _known: Overlay) -> list[LogRecord]:
        assert found[0].offset == self.applied + 1
        valid = []
        for record in found:
            if self._epochs.admit(record.kind, record.epoch, record.offset):
                valid.append(record)
                changes, entries = record.contents()
                for entry in entries:
                    self._note(entry)
                for change in changes:
                    _, row_key = TABLE.keys.locate(TABLE.prefix, change.keys)
                    if change.new is None:
                        self.rows.pop(row_key, None)
                    else:
                        self.rows[row_key] = change.new
            elif record.kind == SPLIT and record.epoch == self._epochs.epoch:
                self.split = record.split()
        self.applied = found[-1].offset
        return valid

    def _note(self, entry: dict[str, Any]) -> None:
        match entry["phase"]:
            case "prepare":
                self._prepared[entry["id"]] = entry
            case "resolve":
                self._prepared.pop(entry["id"], None)
            case "decide":
                self._decisions[entry["id"]] = entry["commit"]
