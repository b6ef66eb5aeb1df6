"""Where a consumer begins, as an app or a user writes it.

    TRIM_HORIZON                      with the oldest change that the log has
    LATEST                            with changes made from now on
    2026-11-23T12:00:00Z, 1795435200  with changes made at that time or later; a number is seconds
                                      since 1970, from 12 digits on milliseconds
    2/1042, 2/1042.0                  at a position, shard/offset, as `streamtable log tail` prints
                                      it; several shards' with spaces or commas between
    2/000000000000104200000           at a position, shard/sequence number

`AT_TIMESTAMP` may stand before a time, `POSITION` before positions.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from streamtable.core.positions import parse_sequence_number

__all__ = ["LATEST", "TRIM_HORIZON", "AtPositions", "AtTime", "Edge", "Start", "parse_start"]

_POSITION: Final = re.compile(r"(\d{1,9})/(\d{1,40})(?:\.\d+)?")
_SEPARATOR: Final = re.compile(r"\s*,\s*|\s+")
_SEQUENCE_DIGITS: Final = 21
_LEAST_MS: Final = 100_000_000_000
_END: Final = datetime(9000, 1, 1, tzinfo=UTC).timestamp() * 1000


@dataclass(frozen=True, slots=True)
class Edge:
    """One of the log's two ends."""

    name: str


@dataclass(frozen=True, slots=True)
class AtTime:
    """A time, milliseconds since 1970."""

    ms: int

    def __str__(self) -> str:
        """As ISO 8601, in UTC."""
        text = datetime.fromtimestamp(self.ms / 1000, UTC).isoformat(timespec="milliseconds")
        return text.replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class AtPositions:
    """By shard the offset of the first record; at least one shard is named."""

    offsets: dict[int, int]


Start: TypeAlias = Edge | AtTime | AtPositions
TRIM_HORIZON: Final = Edge("TRIM_HORIZON")
LATEST: Final = Edge("LATEST")


def parse_start(text: str) -> Start:
    """Return what a start says.

    Raises:
        ValueError: it says nothing; the text lists what can be said.
    """
    stripped = text.strip()
    for edge in (TRIM_HORIZON, LATEST):
        if stripped.upper() == edge.name:
            return edge
    found = _positions(stripped.removeprefix("POSITION ")) or _time(
        stripped.removeprefix("AT_TIMESTAMP ").strip()
    )
    if found is None:
        raise ValueError(
            f"{text!r} is no start: write LATEST, TRIM_HORIZON, a time with its zone "
            "(2026-11-23T12:00:00Z, or seconds since 1970) or a position (shard/offset, for "
            "example 2/1042)"
        )
    return found


def _positions(text: str) -> AtPositions | None:
    offsets = {}
    for part in _SEPARATOR.split(text.strip()):
        match = _POSITION.fullmatch(part)
        if match is None or int(match[1]) in offsets:
            return None
        number = match[2]
        if len(number) >= _SEQUENCE_DIGITS:
            offsets[int(match[1])] = parse_sequence_number(number)[0]
        else:
            offsets[int(match[1])] = int(number)
    return AtPositions(offsets)


def _time(text: str) -> AtTime | None:
    try:
        number = float(text)
    except ValueError:
        return _iso(text)
    if not math.isfinite(number) or number < 0:
        return None
    ms = number if number >= _LEAST_MS else number * 1000
    return AtTime(round(ms)) if ms < _END else None


def _iso(text: str) -> AtTime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        return None
    return AtTime(round(time.timestamp() * 1000))
