"""The Faust agent that materializes the tables from the change log."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import faust

from streamtable.core.errors import StreamtableError
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Shard

__all__ = ["TablesAgent"]

logger = logging.getLogger(__name__)

_GULP_RECORDS: Final = 4096
_GULP_S: Final = 0.01
_START_S: Final = 60.0


class TablesAgent:
    """Follows the log for the shards that Faust assigned to this node.

    An event is acknowledged to Kafka only after its rows are in the shard's store, and the store
    knows its own offset, so a redelivered event is passed over.

    Args:
        address: the brokers, `host:port,...`.
        topic: the change log's name.
        group: the consumer group, one for all nodes of the region.
        node: this node's name in the group; a node that comes back gets its shards back at once.
        shards: every shard by number.
        fail: told of an error after which the node can't go on.
    """

    def __init__(  # noqa: PLR0913 - assembled in one place, by name
        self,
        *,
        address: str,
        topic: str,
        group: str,
        node: str,
        shards: Mapping[int, Shard],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._shards = shards
        self._fail = fail
        self._assigned: set[int] = set()
        self._app = faust.App(
            group,
            broker=[f"kafka://{host}" for host in address.split(",")],
            store="memory://",
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=node,
            consumer_max_fetch_size=4 * 1024 * 1024,
            broker_session_timeout=10.0,
            broker_heartbeat_interval=3.0,
            broker_commit_interval=1.0,
            stream_buffer_maxsize=8192,
            web_enabled=False,
            autodiscover=False,
        )
        channel = self._app.topic(topic, value_type=bytes, value_serializer="raw")
        self._app.agent(channel, name=f"{group}.follow")(self._run)
        self._app.on_partitions_assigned.connect(self._on_assigned)

    async def start(self) -> None:
        """Join the group; returns when this node's shards serve.

        Raises:
            StreamtableError: a shard can't be taken over.
        """
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._app.finalize()
        await self._app.start()
        async with asyncio.timeout(_START_S):
            await self._ready

    async def stop(self) -> None:
        """Leave the group."""
        await self._app.stop()

    async def _on_assigned(self, _app: Any, assigned: Any, **_: Any) -> None:  # noqa: ANN401
        numbers = {partition.partition for partition in assigned}
        for number in self._assigned - numbers:
            self._shards[number].owner.step_down()
        new, self._assigned = numbers - self._assigned, numbers
        try:
            await asyncio.gather(*(self._shards[number].take_over() for number in sorted(new)))
        except StreamtableError as error:
            if self._ready.done():
                self._fail(error)
            else:
                self._ready.set_exception(error)
        else:
            if not self._ready.done():
                self._ready.set_result(None)

    async def _run(self, stream: Any) -> None:  # noqa: ANN401 - faust.Stream has no useful types
        async for events in stream.noack_take(_GULP_RECORDS, within=_GULP_S):
            try:
                await self._follow([event.message for event in events])
            except Exception as error:  # noqa: BLE001 - an agent that raises loses the event
                self._fail(error)
                return
            for event in events:
                event.ack()

    async def _follow(self, messages: list[Any]) -> None:
        by_shard: dict[int, list[LogRecord]] = {}
        for message in messages:
            record = LogRecord.read(
                message.partition,
                message.offset,
                message.timestamp,
                message.headers,
                message.value,
            )
            by_shard.setdefault(record.shard, []).append(record)
        for number, found in by_shard.items():
            await self._shards[number].owner.follow(found)
