"""Changes that were recorded: what `streamtable log tail --json` has printed."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from streamtable.core.changes import Change, change_from_json
from streamtable.core.positions import Position
from streamtable.core.values import item_size
from streamtable.triggers.errors import InvalidRecording

__all__ = ["Recorded", "read_changes"]

Recorded: TypeAlias = str | Path | Iterable[str | bytes | Mapping[str, Any]]
"""A file's path, or its lines, parsed or not."""


def read_changes(recorded: Recorded) -> Iterator[tuple[Change, Position]]:
    """Yield recorded changes and where they were in the log; empty lines are left out.

    Raises:
        InvalidRecording: a line is no change.
        OSError: the file can't be read.
    """
    if isinstance(recorded, (str, Path)):
        with Path(recorded).open("rb") as lines:
            yield from read_changes(lines)
        return
    for number, line in enumerate(recorded, 1):
        if isinstance(line, (str, bytes)) and not line.strip():
            continue
        try:
            raw = line if isinstance(line, Mapping) else orjson.loads(line)
            position = Position(raw["shard"], raw["offset"], raw["index"])
            yield change_from_json(_with_sizes(raw)), position
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRecording(
                f"line {number} is no change as `streamtable log tail --json` prints it: {error!r}"
            ) from error


def _with_sizes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Add what a change that was written by hand may leave out."""
    found = dict(raw)
    stream = found["dynamodb"]
    for image, size, version in (
        ("NewImage", "newSize", "version"),
        ("OldImage", "oldSize", "oldVersion"),
    ):
        if image in stream:
            found.setdefault(size, item_size(stream[image]))
            found.setdefault(version, "1@local")
    found.setdefault("version", "1@local")
    found.setdefault("tableId", "")
    found.setdefault("requestId", "")
    found.setdefault("principal", "")
    return found
