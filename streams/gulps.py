"""Following a log in gulps, for consumers that nobody waits for.

The overlay answers reads, so what materializes the tables may be some milliseconds behind: taken
in gulps, what one fetch and one batch cost is shared by many commits, also when few come at a
time. When nothing comes, nothing is done.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

import faust
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

from streamtable.streams.loops import Loop

__all__ = ["Gulps", "fetch_in_gulps", "longest_fetch_ms"]

_PAUSE_S: Final = 0.02
# Where a fetch brings many records, what it costs itself is worth more than their age.
_LONG_PAUSE_S: Final = 0.05
_MANY: Final = 32
# A consumer has one fetch under way: what comes on a shard that it does not ask for waits as long.
_FETCH_MS: Final = 50
# Each fetch costs 15 microseconds a partition, whether something comes or not.
_PARTITIONS_PER_MS: Final = 2
_GATHER_S: Final = 0.002
_MOST: Final = 8192


class Gulps:
    """Gathers an agent's events and has them applied together, acknowledged when that is done.

    Args:
        apply: takes the messages of a gulp, in order.
        fail: told what `apply` raised; nothing is applied or acknowledged after that.
    """

    def __init__(
        self,
        apply: Callable[[list[Any]], Awaitable[None]],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._apply = apply
        self._fail = fail
        self._events: list[Any] = []
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._dropped = False

    async def add(self, event: Any) -> None:
        """Take an event; waits while there are too many."""
        await self._room.wait()
        if self._dropped:
            return
        self._events.append(event)
        self._some.set()
        if len(self._events) >= _MOST:
            self._room.clear()

    def drop(self) -> None:
        """Hold up nobody who adds something: nothing is applied any more."""
        self._dropped = True
        self._room.set()

    async def run(self) -> None:
        """Apply what is added, until it is cancelled or `apply` raises."""
        while True:
            await self._some.wait()
            await asyncio.sleep(_GATHER_S)
            events, self._events = self._events, []
            self._some.clear()
            self._room.set()
            try:
                await self._apply([event.message for event in events])
            except Exception as error:  # noqa: BLE001 - whatever it was, nothing may be skipped
                self._fail(error)
                return
            for event in events:
                event.ack()


def longest_fetch_ms(partitions: int) -> int:
    """How long a fetch waits where nothing comes, so that idle shards cost next to nothing."""
    return max(_FETCH_MS, partitions // _PARTITIONS_PER_MS)


def fetch_in_gulps(app: faust.App) -> None:
    """Have the app's consumer pause after each fetch that brought something.

    Its thread runs on uvloop, as the node does. Call this before the app is finalized.
    """
    app.transport = _Transport(app.conf.broker_consumer, app)


class _Thread(AIOKafkaConsumerThread):
    logger = logging.getLogger("faust.transport")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, thread_loop=Loop(), **kwargs)

    async def _fetch_records(self, consumer: AIOKafkaConsumer, *args: Any, **kwargs: Any) -> Any:
        wait_ms = longest_fetch_ms(len(consumer.assignment()))
        consumer._fetcher._fetch_max_wait_ms = wait_ms  # noqa: SLF001 - neither Faust nor aiokafka has a setting
        found = await super()._fetch_records(consumer, *args, **kwargs)
        if found:
            many = sum(map(len, found.values())) >= _MANY
            await asyncio.sleep(_LONG_PAUSE_S if many else _PAUSE_S)
        return found


class _Consumer(Consumer):
    logger = logging.getLogger("faust.transport")

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class _Transport(Transport):
    Consumer: ClassVar[Any] = _Consumer
