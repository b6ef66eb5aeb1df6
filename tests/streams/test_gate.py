"""The gate before requests: shut, it lets those under way end and the others wait."""

import asyncio
import weakref
from collections.abc import Awaitable

import pytest

from streamtable.core.errors import ServiceUnavailable
from streamtable.streams import gate as module
from streamtable.streams.gate import Gate


class Calls:
    """Calls that end when the test says so."""

    def __init__(self, gate: Gate) -> None:
        self.begun: list[str] = []
        self.end = asyncio.Event()
        self.call = gate.keeps(self._call)

    async def _call(self, name: str) -> str:
        self.begun.append(name)
        await self.end.wait()
        return name


async def test_a_shut_gate_is_empty_when_what_was_under_way_has_ended() -> None:
    gate = Gate()
    calls = Calls(gate)
    first = asyncio.create_task(calls.call("first"))
    await asyncio.sleep(0)
    gate.shut()
    second = asyncio.create_task(calls.call("second"))
    empty = asyncio.create_task(gate.empty())
    await asyncio.sleep(0)
    assert calls.begun == ["first"]
    assert not empty.done()
    calls.end.set()
    assert await first == "first"
    await empty
    assert calls.begun == ["first"]
    gate.open()
    assert await second == "second"


async def test_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.01)
    gate = Gate()
    calls = Calls(gate)
    gate.shut()
    with pytest.raises(ServiceUnavailable):
        await calls.call("first")
    assert not calls.begun
    await gate.empty()


async def test_a_call_that_fails_has_ended() -> None:
    gate = Gate()

    async def fail() -> None:
        raise ServiceUnavailable

    with pytest.raises(ServiceUnavailable):
        await gate.keeps(fail)()
    await gate.empty()


async def test_what_a_call_does_at_once_is_done_at_once_and_its_arguments_are_let_go() -> None:
    class Body:
        pass

    gate = Gate()
    end = asyncio.Event()
    begun = []

    def call(body: Body) -> Awaitable[bool]:
        begun.append(weakref.ref(body))
        return end.wait()

    body = Body()
    ending = gate.keeps(call)(body)
    del body
    assert begun[0]() is None
    gate.shut()
    empty = asyncio.create_task(gate.empty())
    await asyncio.sleep(0)
    assert not empty.done()
    end.set()
    assert await ending
    await empty


async def test_a_call_that_fails_at_once_has_ended() -> None:
    gate = Gate()

    def fail() -> Awaitable[None]:
        raise ServiceUnavailable

    with pytest.raises(ServiceUnavailable):
        await gate.keeps(fail)()
    await gate.empty()
