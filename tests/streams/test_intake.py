import asyncio
import threading
from types import SimpleNamespace

import pytest

from streamtable.streams import intake
from streamtable.streams.loops import Loop


class Client:
    """A client whose connections are closed; `closed_in` is the loop that has done it."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def close(self) -> None:
        self.closed_in = asyncio.get_running_loop()
        self.closed.set()


async def test_connections_are_closed_in_the_loop_of_their_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From another thread uvloop brings the process down."""
    monkeypatch.setattr(intake, "_LEAVE_S", 0.01)
    loop = Loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    client = Client()
    consumer = object.__new__(intake._Thread)
    consumer.thread_loop = loop
    consumer._consumer = SimpleNamespace(_client=client)
    try:
        consumer.close()
        assert await asyncio.to_thread(client.closed.wait, 10)
        assert client.closed_in is loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(running.join)
        loop.close()
