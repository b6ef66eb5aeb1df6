"""Where a new trigger begins: what `start=` takes, and the text that is stored of it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TypeAlias

from streamtable.core.positions import Position
from streamtable.triggers.errors import InvalidDeclaration

__all__ = [
    "AT_TIMESTAMP",
    "LATEST",
    "POSITION",
    "TRIM_HORIZON",
    "Start",
    "parse_start",
    "start_offsets",
    "start_time",
]

TRIM_HORIZON: Final = "TRIM_HORIZON"
LATEST: Final = "LATEST"
AT_TIMESTAMP: Final = "AT_TIMESTAMP"
POSITION: Final = "POSITION"

Start: TypeAlias = str | datetime | Position | Iterable[Position]


def parse_start(start: Start) -> str:
    """Return the text of a start.

    `TRIM_HORIZON` is the oldest change that the log has, `LATEST` the first one after the
    registration, `AT_TIMESTAMP 2026-01-31T12:00:00+00:00` (or a datetime) the first one accepted
    at that time or later, `POSITION 0/17 3/20` (or positions) for each shard that it names the
    first one of that commit; shards that it does not name begin at TRIM_HORIZON.

    Raises:
        InvalidDeclaration: it is none of these.
    """
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise InvalidDeclaration(f"start={start!r} has no time zone: add tzinfo=UTC")
        return f"{AT_TIMESTAMP} {start.astimezone(UTC).isoformat()}"
    if isinstance(start, Position):
        start = [start]
    if not isinstance(start, str):
        listed = list(start)
        if not listed or not all(isinstance(each, Position) for each in listed):
            raise InvalidDeclaration(f"start={listed!r}: these are no positions")
        return f"{POSITION} " + " ".join(f"{each.shard}/{each.offset}" for each in sorted(listed))
    if start in {TRIM_HORIZON, LATEST}:
        return start
    try:
        kind = start.partition(" ")[0]
        if kind == AT_TIMESTAMP and start_time(start).tzinfo is not None:
            return start
        if kind == POSITION and start_offsets(start):
            return start
    except ValueError:
        pass
    raise InvalidDeclaration(
        f"start={start!r} is none of TRIM_HORIZON, LATEST, a datetime, a position, "
        '"AT_TIMESTAMP 2026-01-31T12:00:00+00:00", "POSITION 0/17 3/20" (shard/offset)'
    )


def start_time(text: str) -> datetime:
    """Return the time of an AT_TIMESTAMP text.

    Raises:
        ValueError: it has none.
    """
    return datetime.fromisoformat(text.removeprefix(f"{AT_TIMESTAMP} "))


def start_offsets(text: str) -> dict[int, int]:
    """Return the offset by shard of a POSITION text.

    Raises:
        ValueError: it has none.
    """
    pairs = (each.split("/") for each in text.removeprefix(f"{POSITION} ").split())
    return {int(shard): int(offset) for shard, offset in pairs}
