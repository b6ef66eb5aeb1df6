"""Where a new trigger begins: what `start=` takes, as the text that is stored."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeAlias

from streamtable.core.positions import Position
from streamtable.core.starts import parse_start
from streamtable.triggers.errors import InvalidDeclaration

__all__ = ["Start", "start_text"]

Start: TypeAlias = str | datetime | Position | Iterable[Position]


def start_text(start: Start) -> str:
    """Return the text of a start, which `core.starts` reads.

    Raises:
        InvalidDeclaration: it is none.
    """
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise InvalidDeclaration(f"start={start!r} has no time zone: add tzinfo=UTC")
        return start.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(start, Position):
        start = [start]
    if not isinstance(start, str):
        positions = list(start)
        if not positions or not all(isinstance(each, Position) for each in positions):
            raise InvalidDeclaration(f"start={positions!r}: these are no positions")
        return " ".join(f"{each.shard}/{each.offset}" for each in sorted(positions))
    try:
        parse_start(start)
    except ValueError as error:
        raise InvalidDeclaration(f"start: {error}") from error
    return start
