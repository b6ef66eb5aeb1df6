"""Committed offsets of consumer groups.

A commit is one record in a journal: all its partitions or none. It survives the end of the process
when it is answered, and that of the machine once it is synced, within a second; what a power cut
takes is delivered again, never skipped.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streamtable.streams.broker.disk import Disk
from streamtable.streams.broker.journal import Journal

__all__ = ["Committed", "Offsets"]


class Committed(NamedTuple):
    """One committed offset, with what the consumer said about it."""

    offset: int
    leader_epoch: int
    metadata: str | None
    time_ms: int


Partition = tuple[str, int]


class Offsets:
    """The committed offsets of all groups."""

    def __init__(self, folder: Path, threads: Disk) -> None:
        self._groups: dict[str, dict[Partition, Committed]] = {}
        self._journal = Journal(folder / "offsets.journal", threads, self._apply, self._snapshot)
        self.load = self._journal.load
        self.sync = self._journal.sync
        self.rewrite = self._journal.rewrite
        self.close = self._journal.close

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def of(self, group: str) -> dict[Partition, Committed]:
        """Return a group's offsets by (topic, partition)."""
        return self._groups.get(group, {})

    def commit(self, group: str, offsets: list[tuple[str, int, int, int, str | None]]) -> None:
        """Store (topic, partition, offset, leader epoch, metadata) of some partitions.

        Raises:
            OSError: nothing was stored.
        """
        record = {"group": group, "ms": int(time.time() * 1000), "offsets": offsets}
        self._journal.write(record)
        self._apply(record)

    def delete(self, group: str, partitions: list[Partition] | None = None) -> None:
        """Forget a group's offsets, or those of some partitions.

        Raises:
            OSError: nothing was forgotten.
        """
        record = {"group": group, "gone": partitions}
        self._journal.write(record)
        self._apply(record)

    def forget_topic(self, topic: str) -> None:
        """Forget every group's offsets of a deleted topic.

        Raises:
            OSError: some may not be forgotten.
        """
        for group in list(self._groups):
            gone = [partition for partition in self._groups[group] if partition[0] == topic]
            if gone:
                self.delete(group, gone)

    def last_commit_ms(self, group: str) -> int:
        """Return when a group last committed; 0 if it never did."""
        return max((one.time_ms for one in self.of(group).values()), default=0)

    def _apply(self, record: dict[str, Any]) -> None:
        group = record["group"]
        if "offsets" in record:
            stored = self._groups.setdefault(group, {})
            for topic, index, offset, epoch, metadata in record["offsets"]:
                stored[topic, index] = Committed(offset, epoch, metadata, record["ms"])
        elif record["gone"] is None:
            self._groups.pop(group, None)
        else:
            stored = self._groups.get(group, {})
            for topic, index in record["gone"]:
                stored.pop((topic, index), None)
            if not stored:
                self._groups.pop(group, None)

    def _snapshot(self) -> Iterator[dict[str, Any]]:
        for group, stored in self._groups.items():
            by_time: dict[int, list[tuple[Any, ...]]] = {}
            for (topic, index), one in stored.items():
                by_time.setdefault(one.time_ms, []).append(
                    (topic, index, one.offset, one.leader_epoch, one.metadata)
                )
            for time_ms, offsets in by_time.items():
                yield {"group": group, "ms": time_ms, "offsets": offsets}
