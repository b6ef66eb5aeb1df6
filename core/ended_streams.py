"""Streams of tables that were deleted: they can be read for a day longer than their table."""

from streamtable.core.documents import DELETING, TableDocument
from streamtable.core.limits import STREAM_KEPT_S

__all__ = ["end_streams", "is_readable"]


def end_streams(document: TableDocument, now: float) -> TableDocument | None:
    """Return what is kept of a table that is deleted: itself, with the streams still readable.

    Args:
        document: the table.
        now: when it is deleted, seconds since 1970; its stream is off from then on.

    Returns:
        None if there is no stream to keep.
    """
    streams = tuple(
        stream if stream.disabled is not None else stream.model_copy(update={"disabled": now})
        for stream in document.streams
        if stream.disabled is None or now - stream.disabled < STREAM_KEPT_S
    )
    if not streams:
        return None
    return document.model_copy(update={"streams": streams, "status": DELETING})


def is_readable(document: TableDocument, now: float) -> bool:
    """Say whether a stream of a deleted table can still be read."""
    return any(
        stream.disabled is None or now - stream.disabled < STREAM_KEPT_S
        for stream in document.streams
    )
