"""`streamtable log stat`: what is in each shard's log."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

from rich.table import Table

from streamtable.cli.epochs import Epochs
from streamtable.cli.output import stdout
from streamtable.streams.reader import LogReader, Span
from streamtable.streams.records import COMMIT, LogRecord

__all__ = ["ShardStat", "print_json", "print_table", "survey"]

_WINDOW_MS: Final = 60_000
_SAMPLE_RECORDS: Final = 5000
_LEAST_WIDTH: Final = 110


@dataclass(frozen=True, slots=True)
class ShardStat:
    """What is known about one shard's log.

    Attributes:
        shard: its number.
        start: offset of the first record kept.
        end: offset of the next record to come.
        records: how many records are kept: commits and barriers.
        first_ms: time of the first one, milliseconds since 1970; None if there is none.
        last_ms: time of the last one.
        changes_per_s: changes a second in the last minute, or, where those are more than 5000
            commits, since the first of these.
        epoch: the epoch in force at the end, None where no node could tell.
        barrier: the offset at which it began.
    """

    shard: int
    start: int
    end: int
    records: int
    first_ms: int | None
    last_ms: int | None
    changes_per_s: float
    epoch: str | None
    barrier: int | None


async def survey(reader: LogReader, epochs: Epochs, now_ms: int) -> list[ShardStat]:
    """Look at every shard.

    Raises:
        LogUnavailable: the brokers do not answer.
    """
    spans = await reader.spans()
    firsts = await _read(
        reader, {n: Span(s.start, min(s.start + 1, s.end)) for n, s in spans.items()}
    )
    lasts = await _read(reader, {n: Span(max(s.end - 1, s.start), s.end) for n, s in spans.items()})
    recent = await reader.offsets_at(now_ms - _WINDOW_MS)
    samples = await _read(
        reader,
        {
            n: Span(max(recent[n], s.start, s.end - _SAMPLE_RECORDS), s.end)
            for n, s in spans.items()
        },
    )
    found = []
    for shard, span in spans.items():
        epoch, barrier = await epochs.in_force(shard, span.end)
        first, last = firsts[shard], lasts[shard]
        found.append(
            ShardStat(
                shard,
                span.start,
                span.end,
                span.end - span.start,
                first[0].timestamp_ms if first else None,
                last[-1].timestamp_ms if last else None,
                _rate(samples[shard], now_ms),
                epoch,
                barrier,
            )
        )
    return found


async def _read(reader: LogReader, spans: dict[int, Span]) -> dict[int, list[LogRecord]]:
    found = defaultdict(list)
    async for records in reader.read_range(spans):
        for record in records:
            found[record.shard].append(record)
    return found


def _rate(sample: list[LogRecord], now_ms: int) -> float:
    changes = sum(len(record.changes()) for record in sample if record.kind == COMMIT)
    span_ms = _WINDOW_MS
    if len(sample) == _SAMPLE_RECORDS:
        span_ms = max(now_ms - sample[0].timestamp_ms, 1)
    return round(changes * 1000 / span_ms, 1)


def print_json(stats: list[ShardStat]) -> None:
    """Print the shards as a JSON array."""
    stdout().print(json.dumps([asdict(stat) for stat in stats], indent=2))


def print_table(stats: list[ShardStat]) -> None:
    """Print the shards as a table."""
    table = Table(box=None, pad_edge=False)
    table.add_column("shard")
    for name in ("start", "end", "records"):
        table.add_column(name, justify="right")
    table.add_column("first", no_wrap=True)
    table.add_column("last", no_wrap=True)
    table.add_column("changes/s", justify="right")
    table.add_column("epoch", no_wrap=True)
    table.add_column("since", justify="right")
    for stat in stats:
        table.add_row(
            str(stat.shard),
            str(stat.start),
            str(stat.end),
            str(stat.records),
            _time(stat.first_ms),
            _time(stat.last_ms),
            str(stat.changes_per_s),
            (stat.epoch or "-")[:12],
            "-" if stat.barrier is None else str(stat.barrier),
        )
    console = stdout()
    console.width = max(console.width, _LEAST_WIDTH)
    console.print(table)


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone():%m-%d %H:%M:%S}"
