"""Which stream the events of a table name, and what it shows."""

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from streamtable.core.lambda_events import EventSource

__all__ = ["DescribeTable", "EventSources", "event_source"]

DescribeTable: TypeAlias = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Returns the `Table` of a DescribeTable answer by the table's name; {} if there is none."""

_KEPT_S: Final = 30.0
_ALL: Final = "NEW_AND_OLD_IMAGES"
_ARN: Final = "arn:aws:dynamodb:local:000000000000:table/"


class EventSources:
    """Knows the stream of a table, and asks again now and then.

    Args:
        describe: asks for the table.
        monotonic: a clock, seconds.
    """

    def __init__(
        self, describe: DescribeTable, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._describe = describe
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, EventSource]] = {}

    async def of(self, table: str) -> EventSource:
        """Return the stream of a table, at most half a minute old.

        Raises:
            StreamtableError: the table can't be described, and never could.
        """
        asked, source = self._known.get(table, (0.0, None))
        now = self._monotonic()
        if source is not None and now < asked + _KEPT_S:
            return source
        found = event_source(table, await self._describe(table))
        self._known[table] = (now, found)
        return found


def event_source(name: str, table: Mapping[str, Any]) -> EventSource:
    """Return the stream that the events of a described table name.

    A table without a stream has events all the same, and one that is gone: with both images, and
    an ARN that has the time of the table's creation where a stream has its label.
    """
    stream = table.get("StreamSpecification") or {}
    created = table.get("CreationDateTime", 0)
    seconds = created.timestamp() if isinstance(created, datetime) else float(created)
    label = datetime.fromtimestamp(seconds, UTC)
    if stream.get("StreamEnabled") and "LatestStreamLabel" in table:
        arn, view_type = table["LatestStreamArn"], stream["StreamViewType"]
        label = datetime.fromisoformat(table["LatestStreamLabel"]).replace(tzinfo=UTC)
    else:
        text = label.replace(tzinfo=None).isoformat(timespec="milliseconds")
        table_arn = table.get("TableArn", f"{_ARN}{name}")
        arn, view_type = f"{table_arn}/stream/{text}", _ALL
    return EventSource(arn, view_type, round(label.timestamp() * 1000))
