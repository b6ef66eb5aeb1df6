"""Format versions of the records in the region's topics.

A record's header `v` has its format; a record without it is of the first. Each topic has its own
numbers, since its records change for reasons of their own.
"""

from collections.abc import Iterable
from typing import Final

from streamtable.core.formats import refuse_newer

__all__ = [
    "CATALOG",
    "CHANGELOG",
    "DEAD_LETTERS",
    "HEADER",
    "INDEXES",
    "LAYOUTS",
    "SPLITS",
    "check_format",
]

HEADER: Final = "v"

CHANGELOG: Final = 2
"""The newest format of commits, barriers and splits that this version knows."""

SPLITS: Final = 2
"""The format of splits: who knows only commits and barriers must not read on."""

INDEXES: Final = 1
"""The newest format of index rows on their way."""

CATALOG: Final = 2
"""The newest format of the catalog's documents that this version knows."""

LAYOUTS: Final = 2
"""The format of the document about the region's shards: who does not know of it would take the
log's partitions for shards."""

DEAD_LETTERS: Final = 1
"""The newest format of dead letters."""


def check_format(
    headers: Iterable[tuple[str, bytes]], known: int, log: str, shard: int, offset: int
) -> None:
    """Let pass a record that this version can read: every reader of a topic asks here.

    Args:
        headers: the record's headers.
        known: the newest format that this version knows in this topic.
        log: what the topic is called, for people.
        shard: the record's partition.
        offset: its offset.

    Raises:
        NewerFormat: the record is of a newer format.
    """
    for name, value in headers:
        if name == HEADER:
            what = f"the record at offset {offset} of shard {shard} of {log}"
            refuse_newer(what, int(value), known)
