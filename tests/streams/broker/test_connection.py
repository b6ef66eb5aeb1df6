"""Bad, slow and many clients: the broker stays up, and its memory bounded."""

import asyncio
import logging
import random
import struct

import pytest

from streamtable.streams.broker import Broker
from streamtable.streams.broker.connection import Connection
from tests.streams.broker.behaviour import create, delete_records
from tests.support.kafka_wire import KafkaWire, batch
from tests.support.waiting import until


async def closed(address: str, data: bytes) -> bool:
    """Send bytes and tell whether the broker closes the connection without an answer."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(1), 60) == b""
    except ConnectionError:
        return True
    finally:
        writer.close()


def frame(key: int, version: int, body: bytes) -> bytes:
    content = struct.pack(">hhihs", key, version, 1, 1, b"x") + body
    return struct.pack(">i", len(content)) + content


class Unconnected(asyncio.Transport):
    """A transport that leads nowhere."""

    def writelines(self, parts) -> None:
        pass

    def abort(self) -> None:
        pass


class TestMalformed:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
            pytest.param(struct.pack(">i", -1), id="a negative size"),
            pytest.param(struct.pack(">i", 2**31 - 1), id="a huge size"),
            pytest.param(struct.pack(">i", 3) + b"abc", id="less than a header"),
            pytest.param(frame(0, 8, b""), id="an empty Produce"),
            pytest.param(frame(1, 11, bytes(30)), id="a short Fetch"),
            pytest.param(frame(3, 5, b"\x7f\xff\xff\xff\x00"), id="a huge array"),
            pytest.param(frame(3, 5, b"\x00\x00\x00\x01\x00\x02\xff\xff\x00"), id="no UTF-8"),
            pytest.param(frame(12, 4, b"\x00\xff\xff\xff\xff\xff"), id="an endless varint"),
            pytest.param(frame(0, 2, bytes(20)), id="a version that is not spoken"),
        ],
    )
    async def test_closes_the_connection_and_says_why(self, broker, caplog, data):
        with caplog.at_level(logging.WARNING):
            assert await closed(broker.address, data)
        assert "closed the connection of 127.0.0.1" in caplog.text
        async with await KafkaWire.connect(broker.address) as wire:
            assert (await wire.produce(await create(wire), batch(b"a"))).base_offset == 0

    async def test_any_frame_is_survived(self, broker):
        """Straight into a connection: nothing but a closed connection may come of it."""
        async with await KafkaWire.connect(broker.address) as wire:
            await create(wire)
            apis = next(iter(broker._connections))._apis
        choice = random.Random(7)
        for _ in range(5000):
            connection = Connection(apis, broker._settings, set())
            connection.connection_made(Unconnected())
            body = choice.randbytes(choice.randrange(60))
            connection.data_received(frame(choice.choice(list(apis)), choice.randrange(12), body))
            connection.connection_lost(None)
        async with await KafkaWire.connect(broker.address) as wire:
            assert (await wire.produce(await create(wire), batch(b"a"))).base_offset == 0


class TestLimits:
    async def test_a_frame_above_the_limit(self, broker, settings):
        size = struct.pack(">i", settings.max_request_bytes + 1)
        assert await closed(broker.address, size)

    async def test_connections_above_the_limit_are_closed(self, settings, caplog):
        broker = Broker(settings.model_copy(update={"max_connections": 2}))
        await broker.start()
        wires = [await KafkaWire.connect(broker.address) for _ in range(2)]
        for wire in wires:
            await wire.call(18, 0)
        with caplog.at_level(logging.WARNING):
            assert await closed(broker.address, b"")
        assert "2 connections, the limit" in caplog.text
        await wires[0].close()
        await until(lambda: len(broker._connections) == 1, "the connection to be gone")
        async with await KafkaWire.connect(broker.address) as wire:
            await wire.call(18, 0)
        await wires[1].close()
        await broker.stop()

    async def test_requests_behind_a_waiting_one_are_answered_after_it(self, broker):
        async with await KafkaWire.connect(broker.address) as wire:
            topic = await create(wire)
            fetch = wire.send_fetch(topic, 0, wait_ms=20_000)
            offsets = [wire.send(18, 0) for _ in range(3)]
            async with await KafkaWire.connect(broker.address) as other:
                await other.produce(topic, batch(b"a"))
            assert (await wire.receive(1, 11, fetch)).responses[0].partitions[0].records
            for one in offsets:
                await wire.receive(18, 0, one)

    async def test_a_frame_may_come_in_pieces(self, broker):
        async with await KafkaWire.connect(broker.address) as wire:
            topic = await create(wire)
            pieces: list[bytes] = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(wire, "send_raw", pieces.append)
                sent = [wire.send_produce(topic, batch(bytes(50))) for _ in range(3)]
            data = b"".join(pieces)
            for at in range(0, len(data), 7):
                wire.send_raw(data[at : at + 7])
                await wire.drain()
            for offset, one in enumerate(sent):
                answer = await wire.receive(0, 8, one)
                assert answer.responses[0].partition_responses[0].base_offset == offset

    async def test_a_client_that_does_not_read_is_not_read_either(self, broker):
        """Its answers fill the socket; its requests stay in it; others are served."""
        async with await KafkaWire.connect(broker.address) as slow:
            topic = await create(slow)
            await slow.produce(topic, batch(bytes(1 << 20)))
            sent = [slow.send_fetch(topic, 0, max_bytes=2 << 20) for _ in range(200)]
            async with await KafkaWire.connect(broker.address) as other:
                await other.produce(topic, batch(b"a"))
            [connection] = await until(
                lambda: [one for one in broker._connections if one._full], "its answers to wait"
            )
            assert len(connection._calls) <= 1
            for one in sent:
                answer = await slow.receive(1, 11, one)
                assert len(answer.responses[0].partitions[0].records) > 1 << 20

    async def test_a_waiting_fetch_of_a_lost_connection_is_let_go(self, broker):
        async with await KafkaWire.connect(broker.address) as wire:
            topic = await create(wire)
            async with await KafkaWire.connect(broker.address) as other:
                other.send_fetch(topic, 0, wait_ms=600_000)
                log = next(iter(broker._connections))._apis[0].raw._topics.partition(topic, 0)
                await until(lambda: log.watchers, "the fetch to wait")
            await until(lambda: not log.watchers, "the fetch to be let go")
            await delete_records(wire, topic, 0)

    async def test_a_deleted_topic_answers_those_who_wait(self, broker):
        async with await KafkaWire.connect(broker.address) as wire:
            topic = await create(wire)
            async with await KafkaWire.connect(broker.address) as other:
                sent = other.send_fetch(topic, 0, wait_ms=600_000)
                log = next(iter(broker._connections))._apis[0].raw._topics.partition(topic, 0)
                await until(lambda: log.watchers, "the fetch to wait")
                await wire.call(20, 5, topic_names=[topic], timeout=1000)
                answer = await other.receive(1, 11, sent)
            code = answer.responses[0].partitions[0].error_code
            assert code.name == "unknown_topic_or_partition"
