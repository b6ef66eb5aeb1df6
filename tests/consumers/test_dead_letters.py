"""Dead letters in a topic of a real broker: written, read, replaced, closed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streamtable.consumers.dead_letters import (
    DeadLetter,
    DeadLetterReader,
    DeadLetterWriter,
    LetterGone,
    letter_error,
    read_dead_letters,
)
from streamtable.core.changes import change_to_json
from streamtable.core.formats import NewerFormat
from streamtable.core.positions import Position
from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.formats import DEAD_LETTERS, HEADER
from streamtable.streams.log import LogUnavailable
from streamtable.streams.producers import open_producer
from streamtable.streams.topics import Topics
from tests.support.changelog import change

TOPICS = Topics("local")
TOPIC = TOPICS.deadletters


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    await TOPICS.create(broker.address, 2)
    yield broker.address
    await broker.stop()


@pytest.fixture
async def writer(address: str) -> AsyncIterator[DeadLetterWriter]:
    made = DeadLetterWriter(address, TOPIC)
    yield made
    await made.close()


def letter(shard: int, offset: int, name: str = "a", **changes: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "kind": "trigger",
        "app": "shop",
        "consumer": "welcome",
        "generation": 1,
        "table": "users",
        "keys": {"id": {"S": name}},
        "reason": "retries",
        "attempts": 3,
        "first_failed_ms": 1,
        "failed_ms": 2,
        "error": ValueError("no"),
        **changes,
    }
    content = change(name, new={"v": {"S": "ä"}})
    return DeadLetter.make(content, Position(shard, offset, 0), **given)


async def test_a_letter_comes_back_whole(address: str, writer: DeadLetterWriter) -> None:
    await writer.add(letter(1, 7))
    (found,) = await read_dead_letters(address, TOPIC)
    assert (found.partition, found.offset) == (1, 0)
    assert found.id == "shop/welcome/1-7-0"
    assert found.position == Position(1, 7, 0)
    assert found.error == {"type": "ValueError", "message": "no", "trace": "ValueError: no\n"}
    content = found.content()
    assert content is not None
    assert content.new is not None
    assert content.new.item == {"id": {"S": "a"}, "v": {"S": "ä"}}
    assert content.request_id == "REQUEST"
    assert change_to_json(content).keys() == change_to_json(change("a")).keys()


async def test_what_is_resolved_is_not_open_any_more(
    address: str, writer: DeadLetterWriter
) -> None:
    for number in range(3):
        await writer.add(letter(number % 2, number))
    [first, *_] = await read_dead_letters(address, TOPIC)
    await writer.resolve(first, "redriven", 5)
    found = await read_dead_letters(address, TOPIC)
    assert [each.position.offset for each in found] == [2, 1]


async def test_a_letter_of_the_same_id_replaces_the_older_one(
    address: str, writer: DeadLetterWriter
) -> None:
    await writer.add(letter(0, 0, attempts=1))
    (first,) = await read_dead_letters(address, TOPIC)
    await writer.resolve(first, "redriven", 5)
    await writer.add(letter(0, 0, attempts=4))
    await writer.add(letter(0, 0, attempts=9))
    (found,) = await read_dead_letters(address, TOPIC)
    assert (found.attempts, found.offset) == (9, 3)


async def test_a_letter_that_came_before_the_older_one_was_closed_stays_open(
    address: str, writer: DeadLetterWriter
) -> None:
    await writer.add(letter(0, 0, attempts=1))
    (first,) = await read_dead_letters(address, TOPIC)
    # It was sent back, and given up again before the older letter was closed.
    await writer.add(letter(0, 0, attempts=4))
    await writer.resolve(first, "redriven", 5)
    (found,) = await read_dead_letters(address, TOPIC)
    assert found.attempts == 4
    await writer.resolve(found, "redriven", 6)
    assert await read_dead_letters(address, TOPIC) == []


async def test_a_letter_is_read_by_its_place(address: str, writer: DeadLetterWriter) -> None:
    for number in range(3):
        await writer.add(letter(0, number, f"u{number}"))
    [first, *_] = await read_dead_letters(address, TOPIC)
    await writer.resolve(first, "dropped", 5)
    reader = DeadLetterReader(address, TOPIC)
    try:
        assert (await reader.read(0, 2)).keys == {"id": {"S": "u2"}}
        assert (await reader.read(0, 0)).keys == {"id": {"S": "u0"}}
        with pytest.raises(LetterGone, match="has no letter at 0:3"):
            await reader.read(0, 3)
        with pytest.raises(LetterGone, match="has no letter at 0:99"):
            await reader.read(0, 99)
    finally:
        await reader.close()


async def test_a_letter_of_a_newer_format_is_not_read(address: str) -> None:
    producer = await open_producer(address)
    header = (HEADER, b"%d" % (DEAD_LETTERS + 1))
    await producer.send_and_wait(TOPIC, b"{}", partition=0, headers=[header])
    await producer.stop()
    with pytest.raises(NewerFormat, match="offset 0 of shard 0 of the dead letters"):
        await read_dead_letters(address, TOPIC)


async def test_without_a_topic_there_are_no_letters(address: str) -> None:
    assert await read_dead_letters(address, "other.deadletters") == []
    assert await read_dead_letters(address, TOPIC) == []


async def test_no_broker_is_told_as_such(unused_tcp_port: int) -> None:
    nowhere = f"127.0.0.1:{unused_tcp_port}"
    with pytest.raises(LogUnavailable):
        await read_dead_letters(nowhere, TOPIC)
    made = DeadLetterWriter(nowhere, TOPIC)
    with pytest.raises(LogUnavailable, match=r"local\.deadletters can't be written"):
        await made.add(letter(0, 0))


def test_an_error_is_kept_within_limits() -> None:
    def fail() -> None:
        raise ValueError("x" * 50_000)

    try:
        fail()
    except ValueError as error:
        kept = letter_error(error)
    assert len(kept["message"]) == 4_000
    assert len(kept["trace"]) == 20_000
