"""`streamtable log tail`: where it starts, what it leaves out, how it prints."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from streamtable.cli.changes import barrier_text, change_json, change_text, void_text
from streamtable.cli.epochs import Epochs
from streamtable.cli.output import stdout
from streamtable.core.changes import Change
from streamtable.core.positions import Position
from streamtable.streams.epochs import BARRIER
from streamtable.streams.reader import LogReader, Span
from streamtable.streams.records import LogRecord

__all__ = ["Start", "Tail", "print_json", "print_text"]

_BACK: Final = re.compile(r"(\d{1,9}) *(s|m|h|seconds?|minutes?|hours?)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins.

    Attributes:
        back_s: so many seconds ago; 0 for the log's end, None for its start.
    """

    back_s: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "earliest", "latest", or how far back: "30s", "15m", "2 hours".

        Raises:
            ValueError: it is none of them.
        """
        if text == "earliest":
            return cls(None)
        if text == "latest":
            return cls(0)
        found = _BACK.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is none of earliest, latest, 30s, 15m, 2h")
        return cls(int(found[1]) * _SECONDS[found[2][0]])

    async def offsets(self, reader: LogReader, now_ms: int) -> dict[int, int]:
        """Return where reading begins in each shard."""
        if self.back_s:
            return await reader.offsets_at(now_ms - self.back_s * 1000)
        spans = await reader.spans()
        at_end = self.back_s == 0
        return {shard: span.end if at_end else span.start for shard, span in spans.items()}


Show = Callable[[LogRecord, "list[tuple[Change, Position]] | None"], None]


class Tail:
    """Reads the log and shows the changes.

    Args:
        reader: the log.
        epochs: says which commits count.
        tables: the tables whose changes are shown; all if empty.
        show: prints a record: a commit with those of its changes that are shown, or, with None,
            a barrier or a void commit.
    """

    def __init__(
        self, reader: LogReader, epochs: Epochs, *, tables: frozenset[str], show: Show
    ) -> None:
        self._reader = reader
        self._epochs = epochs
        self._tables = tables
        self._show = show

    async def run(self, starts: Mapping[int, int], *, follow: bool) -> None:
        """Show what there is from these offsets on; without `follow`, up to the log's end now."""
        for shard, offset in starts.items():
            await self._epochs.start_at(shard, offset)
        async for records in self._read(starts, follow=follow):
            for record in sorted(records, key=lambda record: record.timestamp_ms):
                self._take(record)

    async def _read(
        self, starts: Mapping[int, int], *, follow: bool
    ) -> AsyncIterator[list[LogRecord]]:
        if follow:
            async for records in self._reader.read(starts):
                yield records
            return
        ends = await self._reader.spans()
        spans = {shard: Span(offset, ends[shard].end) for shard, offset in starts.items()}
        async for records in self._reader.read_range(spans):
            yield records

    def _take(self, record: LogRecord) -> None:
        valid = self._epochs.admit(record)
        if self._tables and record.kind != BARRIER and not self._tables & record.tables:
            return
        if not valid:
            self._show(record, None)
            return
        self._show(
            record,
            [
                (change, Position(record.shard, record.offset, index))
                for index, change in enumerate(record.changes())
                if not self._tables or change.table in self._tables
            ],
        )


def print_text(record: LogRecord, changes: list[tuple[Change, Position]] | None) -> None:
    """Print a record for a person."""
    console = stdout()
    if changes is None:
        console.print(barrier_text(record) if record.kind == BARRIER else void_text(record))
        return
    for change, position in changes:
        console.print(change_text(change, position))


def print_json(_record: LogRecord, changes: list[tuple[Change, Position]] | None) -> None:
    """Print each change of a commit as one line of JSON; nothing else."""
    for change, position in changes or ():
        print(change_json(change, position), flush=True)  # noqa: T201 - the command's result
