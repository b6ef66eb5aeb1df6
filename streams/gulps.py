"""A Faust transport that fetches in gulps, for followers that nobody waits for.

The overlay answers reads, so the tables' agent may be some milliseconds behind: fetched in gulps,
what one fetch costs is shared by many commits, also when few come at a time. And the consumer's
thread runs on uvloop, as the node does.
"""

from typing import Any, ClassVar, Final

import faust
import uvloop
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport

__all__ = ["fetch_in_gulps"]

_GULP_BYTES: Final = 256 * 1024
_GULP_MS: Final = 20


def fetch_in_gulps(app: faust.App) -> None:
    """Have the app's consumer wait for 256 KB or 20 ms; call it before the app is finalized."""
    app.transport = _Transport(app.conf.broker_consumer, app)


class _Thread(AIOKafkaConsumerThread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, thread_loop=uvloop.new_event_loop(), **kwargs)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no settings for these; the consumer reads them when it starts.
        consumer._fetch_min_bytes = _GULP_BYTES  # noqa: SLF001
        consumer._fetch_max_wait_ms = _GULP_MS  # noqa: SLF001
        return consumer


class _Consumer(Consumer):
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class _Transport(Transport):
    Consumer: ClassVar[Any] = _Consumer
