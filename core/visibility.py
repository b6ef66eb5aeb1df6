"""Read-your-writes: positions in the log that a write's answer names, and a read waits for.

As text a set of positions is `SHARD:OFFSET[,SHARD:OFFSET...]`, for example `0:1412,3:977`: the
last record of each shard that a request has written.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from streamtable.core.errors import ValidationError

__all__ = [
    "AFTER_HEADER",
    "POSITION_HEADER",
    "WAIT_HEADER",
    "After",
    "format_positions",
    "parse_after",
    "parse_positions",
]

POSITION_HEADER: Final = "x-streamtable-position"
"""The header of a write's answer that says where the write is in the log."""

AFTER_HEADER: Final = "x-streamtable-after"
"""The header of a read that is to show what is at these positions."""

WAIT_HEADER: Final = "x-streamtable-wait-ms"
"""The header that says how long such a read may wait, milliseconds."""

_WAIT_MS: Final = 1000
_LONGEST_WAIT_MS: Final = 10_000
_MOST: Final = 1000
_POSITION: Final = re.compile(r" *([0-9]{1,6}):([0-9]{1,18}) *", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,6}", re.ASCII)


class After(NamedTuple):
    """What a read is to show.

    Attributes:
        positions: an offset by shard.
        wait_s: how long it may wait.
    """

    positions: Mapping[int, int]
    wait_s: float


def format_positions(positions: Mapping[int, int]) -> str:
    """Return the text of positions."""
    return ",".join([f"{shard}:{offset}" for shard, offset in positions.items()])


def parse_positions(text: str) -> dict[int, int]:
    """Read the text of positions; of two in one shard the later one counts.

    Raises:
        ValueError: it is none; the message says what is wrong.
    """
    found: dict[int, int] = {}
    parts = text.split(",", _MOST)
    if len(parts) > _MOST:
        raise ValueError(f"it has more than {_MOST} positions")
    for part in parts:
        match = _POSITION.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not SHARD:OFFSET")
        shard, offset = int(match[1]), int(match[2])
        found[shard] = max(offset, found.get(shard, -1))
    return found


def parse_after(after: str, wait_ms: str | None) -> After:
    """Read the headers of a read that is to show a write.

    Args:
        after: the positions.
        wait_ms: how long it may wait; None for a second.

    Raises:
        ValidationError: one of them can't be read; the message says which and why.
    """
    try:
        positions = parse_positions(after)
    except ValueError as error:
        raise ValidationError(
            f"{AFTER_HEADER} has the {POSITION_HEADER} of an answer, such as 0:1412,3:977: {error}"
        ) from None
    wait = _WAIT_MS
    if wait_ms is not None:
        wait = int(wait_ms) if _NUMBER.fullmatch(wait_ms) else -1
        if not 0 <= wait <= _LONGEST_WAIT_MS:
            raise ValidationError(
                f"{WAIT_HEADER} is a number of milliseconds, at most {_LONGEST_WAIT_MS}: "
                f"{wait_ms!r}"
            )
    return After(positions, wait / 1000)
