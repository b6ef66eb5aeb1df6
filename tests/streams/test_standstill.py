"""What waited in the sockets while this process stood still is not carried out any more."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamtable.core.errors import ServiceUnavailable
from streamtable.streams import standstill
from streamtable.streams.gate import Gate
from streamtable.streams.owner import Moved
from streamtable.streams.peers.client import PeerClient
from streamtable.streams.peers.server import PeerServer
from streamtable.streams.standstill import Standstill

STOPPED_S = 12.0
AFTER_S = 1.5


class Clock:
    """Tells the time that was set."""

    at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(standstill, "now", made)
    return made


@pytest.fixture
async def watch(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Standstill]:
    # It looks once, and what the clock tells then decides.
    monkeypatch.setattr(standstill, "_LOOK_S", 1000.0)
    made = Standstill()
    made.start()
    yield made
    made.stop()


async def test_it_is_told_until_a_moment_after_it(watch: Standstill, clock: Clock) -> None:
    assert not watch.dazed()
    clock.at += 1
    assert not watch.dazed()
    clock.at += STOPPED_S
    assert watch.dazed()


async def test_it_is_over_a_moment_later(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "_LOOK_S", 0.0)
    watch = Standstill()
    watch.start()
    clock.at += STOPPED_S
    assert watch.dazed()
    clock.at += AFTER_S
    watch._seen = clock.at
    assert not watch.dazed()
    watch.stop()


async def test_a_request_that_may_be_old_is_to_be_tried_again(
    watch: Standstill, clock: Clock
) -> None:
    done: list[int] = []

    async def call(number: int) -> None:
        done.append(number)

    kept = Gate(watch).keeps(call)
    await kept(1)
    clock.at += STOPPED_S
    with pytest.raises(ServiceUnavailable):
        await kept(2)
    watch._seen = clock.at
    clock.at += AFTER_S
    await kept(3)
    assert done == [1, 3]


async def test_a_call_of_another_node_that_may_be_old_is_for_whoever_has_the_shard_now(
    watch: Standstill, clock: Clock
) -> None:
    done: list[Any] = []

    async def call(number: Any) -> Any:
        done.append(number)
        return number

    async def at_once(_catalog: int) -> None:
        pass

    server = PeerServer("eu", lambda _: call, lambda: 0, at_once, standstill=watch)
    client = PeerClient("eu")
    address = f"127.0.0.1:{await server.start('127.0.0.1', 0)}"
    assert await client.call(address, "write", 1) == 1
    clock.at += STOPPED_S
    with pytest.raises(Moved):
        await client.call(address, "write", 2)
    watch._seen = clock.at
    clock.at += AFTER_S
    assert await client.call(address, "write", 3) == 3
    assert done == [1, 3]
    await client.stop()
    await server.stop()
