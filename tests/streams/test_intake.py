import asyncio
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState

from streamtable.streams import intake
from streamtable.streams.loops import Loop
from streamtable.streams.pacing import Next


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
    closing = loop.create_future()
    coordinator = SimpleNamespace(_closing=closing)
    consumer._consumer = SimpleNamespace(_client=client, _coordinator=coordinator)
    try:
        consumer.close()
        assert await asyncio.to_thread(client.closed.wait, 10)
        assert client.closed_in is loop
        assert closing.done()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(running.join)
        loop.close()


async def test_a_thread_ends_whatever_its_consumer_has_cancelled() -> None:
    """Who stops it would wait for a minute."""

    async def stop() -> None:
        raise asyncio.CancelledError

    worker = SimpleNamespace(stop=AsyncMock())
    thread: Any = object.__new__(intake._Thread)
    thread.log = Mock()
    thread._consumer = SimpleNamespace(stop=stop)
    thread._method_queue = worker
    await thread.on_thread_stop()
    thread.log.warning.assert_called_once()


async def test_the_next_fetch_waits_as_the_pace_says() -> None:
    client = SimpleNamespace(_loop=asyncio.get_running_loop(), _metadata_max_age_ms=1000)
    fetcher: Any = Fetcher(client, SubscriptionState())
    known = set(vars(fetcher))
    found: dict[str, list[int]] = {"a": [1, 2], "b": [3]}
    waited: list[tuple[int, int]] = []

    async def fetched(*_arguments: Any, **_how: Any) -> dict[str, list[int]]:
        waited.append((fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes))
        return found

    thread: Any = object.__new__(intake._Thread)
    thread._brought = 0
    thread.consumer = SimpleNamespace(flow_active=True)
    thread.transport = SimpleNamespace(
        intake=SimpleNamespace(
            pace=lambda records, partitions: Next(wait_ms=partitions, least_bytes=10 + records)
        )
    )
    consumer = SimpleNamespace(
        _closed=False,
        _coordinator=SimpleNamespace(check_errors=lambda: None),
        _fetcher=fetcher,
        assignment=lambda: {1, 2, 3, 4},
    )
    try:
        # aiokafka reads these when it sends a fetch, which have no setting.
        assert {"_fetch_max_wait_ms", "_fetch_min_bytes"} <= known
        fetcher.fetched_records = fetched
        assert await thread._fetch_records(consumer, set()) == found
        assert waited == [(4, 10)]
        # Already set for the one that is sent when this one is handed over.
        assert (fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes) == (4, 13)
    finally:
        await fetcher.close()
