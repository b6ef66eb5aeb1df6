import asyncio
import threading
from types import SimpleNamespace

from streamtable.streams.intake import _Thread
from streamtable.streams.loops import Loop


class Part:
    """Something of a consumer that is closed; `closed_in` is the loop that has done it."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def close(self) -> None:
        self.closed_in = asyncio.get_running_loop()
        self.closed.set()


async def test_connections_are_closed_in_the_loop_of_their_thread() -> None:
    """From another thread uvloop brings the process down."""
    loop = Loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    client, coordinator = Part(), Part()
    consumer = object.__new__(_Thread)
    consumer.thread_loop = loop
    consumer._consumer = SimpleNamespace(_client=client, _coordinator=coordinator)
    try:
        consumer.close()
        for part in (client, coordinator):
            assert await asyncio.to_thread(part.closed.wait, 10)
            assert part.closed_in is loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(running.join)
        loop.close()
