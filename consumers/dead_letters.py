"""The changes that a consumer of the log has given up, whole, in a topic of the region.

A dead letter is in the partition of the shard that its change came from, for 14 days. It is open
until a resolution follows there that names its id and its offset; a letter that follows with the id
of an older one replaces it. A change that was sent back may be given up again before the letter
that it was sent back by is closed: so that closes the older letter alone.
"""

import asyncio
import time
import traceback
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streamtable.core.changes import Change, change_from_json, change_to_json
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import StreamtableError
from streamtable.core.positions import Position
from streamtable.streams.admin import open_admin
from streamtable.streams.formats import DEAD_LETTERS, check_format
from streamtable.streams.log import CLIENT_ERRORS, LogUnavailable
from streamtable.streams.partitions import open_consumer
from streamtable.streams.producers import close_producer, open_producer

__all__ = [
    "DeadLetter",
    "DeadLetterReader",
    "DeadLetterWriter",
    "LetterGone",
    "Reason",
    "Resolution",
    "letter_error",
    "letter_id",
    "read_dead_letters",
]

Reason: TypeAlias = Literal["retries", "age", "rejected"]
Resolution: TypeAlias = Literal["redriven", "dropped"]

_SEND_S: Final = 10.0
_READ_S: Final = 10.0
_POLL_MS: Final = 500
_MESSAGE_CHARACTERS: Final = 4_000
_TRACE_CHARACTERS: Final = 20_000
_OWN_FRAMES: Final = ("streamtable.", "asyncio", "concurrent.")


class LetterGone(StreamtableError, LookupError):
    """The topic no longer has a dead letter that is to be read."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A change that was given up.

    Attributes:
        id: `APP/NAME/shard-offset-index`.
        kind: the consumer's kind: trigger, view or search.
        app: its app.
        consumer: its name.
        generation: its generation.
        position: where the change is in the log, or was.
        table: name of the table.
        keys: the item's key in wire form.
        reason: `retries` are used up, the change was too old (`age`), or it can never be
            handled (`rejected`).
        attempts: how often it was tried.
        first_failed_ms: when it failed first, milliseconds since 1970.
        failed_ms: when it was given up.
        error: its last error: `type`, `message`, `trace`.
        change: the change as the log has it; None where the log had lost it before.
        partition: where the letter is in its topic; -1 for one that is not there yet.
        offset: as `partition`.
    """

    id: str
    kind: str
    app: str
    consumer: str
    generation: int
    position: Position
    table: str
    keys: dict[str, Any]
    reason: str
    attempts: int
    first_failed_ms: int
    failed_ms: int
    error: dict[str, str]
    change: dict[str, Any] | None
    partition: int = -1
    offset: int = -1

    @classmethod
    def make(
        cls,
        change: Change | None,
        position: Position,
        *,
        kind: str,
        app: str,
        consumer: str,
        generation: int,
        table: str,
        keys: dict[str, Any],
        reason: Reason,
        attempts: int,
        first_failed_ms: int,
        failed_ms: int,
        error: BaseException,
    ) -> "DeadLetter":
        """Return the letter of a change."""
        return cls(
            letter_id(app, consumer, position),
            kind,
            app,
            consumer,
            generation,
            position,
            table,
            keys,
            reason,
            attempts,
            first_failed_ms,
            failed_ms,
            letter_error(error),
            None if change is None else change_to_json(change),
        )

    @classmethod
    def rejected(
        cls, document: ConsumerDocument, change: Change, position: Position, error: dict[str, str]
    ) -> "DeadLetter":
        """Return the letter of a change that a consumer refused at once.

        Args:
            document: the consumer.
            change: what it refused.
            position: where that is in the log.
            error: why, as `letter_error` has it.
        """
        now_ms = time.time_ns() // 1_000_000
        return cls(
            id=letter_id(document.app, document.name, position),
            kind=document.kind,
            app=document.app,
            consumer=document.name,
            generation=document.generation,
            position=position,
            table=change.table,
            keys=change.keys,
            reason="rejected",
            attempts=1,
            first_failed_ms=now_ms,
            failed_ms=now_ms,
            error=error,
            change=change_to_json(change),
        )

    @classmethod
    def from_json(cls, record: dict[str, Any], partition: int, offset: int) -> "DeadLetter":
        """Read what `to_json` made, found at this place of the topic."""
        fields = {**record, "position": Position(*record["position"])}
        return cls(**fields, partition=partition, offset=offset)

    def to_json(self) -> dict[str, Any]:
        """Return the letter as its topic has it; a change of its own has `orjson.Fragment`."""
        return {
            "id": self.id,
            "kind": self.kind,
            "app": self.app,
            "consumer": self.consumer,
            "generation": self.generation,
            "position": self.position.to_json(),
            "table": self.table,
            "keys": self.keys,
            "reason": self.reason,
            "attempts": self.attempts,
            "first_failed_ms": self.first_failed_ms,
            "failed_ms": self.failed_ms,
            "error": self.error,
            "change": self.change,
        }

    def content(self) -> Change | None:
        """Return the change of a letter that was read from the topic, None where it was lost."""
        return None if self.change is None else change_from_json(self.change)


def letter_id(app: str, consumer: str, position: Position) -> str:
    """Return the id of the letter of a consumer's change."""
    return f"{app}/{consumer}/{position.shard}-{position.offset}-{position.index}"


def letter_error(error: BaseException) -> dict[str, str]:
    """Return an error's type, message and trace, cut to what a letter keeps of them.

    The trace begins with the first frame that is not streamtable's own.
    """
    frames = error.__traceback__
    while frames and frames.tb_frame.f_globals.get("__name__", "").startswith(_OWN_FRAMES):
        frames = frames.tb_next
    trace = "".join(traceback.format_exception(type(error), error, frames))
    return {
        "type": type(error).__name__,
        "message": str(error)[:_MESSAGE_CHARACTERS],
        "trace": trace[-_TRACE_CHARACTERS:],
    }


class DeadLetterWriter:
    """Appends to the dead letters' topic. An error spoils nothing: call again.

    Args:
        address: the brokers, `host:port,...`.
        topic: the dead letters' topic.
    """

    def __init__(self, address: str, topic: str) -> None:
        self._address = address
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the brokers."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    async def add(self, letter: DeadLetter) -> None:
        """Append a letter to the partition of its shard; it is durable on return.

        Raises:
            LogUnavailable: the brokers do not answer; it may be there or not.
        """
        await self._append(letter.position.shard, letter.to_json())

    async def resolve(self, letter: DeadLetter, how: Resolution, at_ms: int) -> None:
        """Close a letter; that is durable on return.

        Args:
            letter: as it was read from the topic.
            how: what became of it.
            at_ms: when, milliseconds since 1970.

        Raises:
            LogUnavailable: the brokers do not answer; it may be closed or not.
        """
        closed = {"id": letter.id, "offset": letter.offset, "resolved": how, "at_ms": at_ms}
        await self._append(letter.partition, closed)

    async def _append(self, partition: int, value: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(_SEND_S):
                producer = await self._open()
                if partition not in await producer.partitions_for(self._topic):
                    # There are more since it was opened, of which it learns too late.
                    await self._drop()
                    producer = await self._open()
                await producer.send_and_wait(self._topic, orjson.dumps(value), partition=partition)
        except CLIENT_ERRORS as error:
            await self._drop()
            raise LogUnavailable(f"{self._topic} can't be written: {error!r}") from error

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                self._producer = await open_producer(self._address)
            return self._producer

    async def _drop(self) -> None:
        """Forget a producer that has failed: a failed batch spoils an idempotent one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)


class DeadLetterReader:
    """Reads dead letters by their place.

    Args:
        address: the brokers, `host:port,...`.
        topic: the dead letters' topic.
    """

    def __init__(self, address: str, topic: str) -> None:
        self._address = address
        self._topic = topic
        self._consumer: AIOKafkaConsumer | None = None
        self._one = asyncio.Lock()

    async def close(self) -> None:
        """Let go of the brokers."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def read(self, partition: int, offset: int) -> DeadLetter:
        """Return the letter at a place.

        Raises:
            LetterGone: the topic has no such letter any more.
            LogUnavailable: the brokers do not answer.
            NewerFormat: it is of a newer format than this version knows.
        """
        place = TopicPartition(self._topic, partition)
        async with self._one:
            try:
                async with asyncio.timeout(_READ_S):
                    if self._consumer is None:
                        self._consumer = await open_consumer(self._address, [])
                    self._consumer.assign([place])
                    self._consumer.seek(place, offset)
                    found = await self._consumer.getone(place)
            except OffsetOutOfRangeError as error:
                raise self._gone(partition, offset) from error
            except CLIENT_ERRORS as error:
                raise LogUnavailable(f"{self._topic} can't be read: {error!r}") from error
        value = _value(found)
        if found.offset != offset or "resolved" in value:
            raise self._gone(partition, offset)
        return DeadLetter.from_json(value, partition, offset)

    def _gone(self, partition: int, offset: int) -> LetterGone:
        return LetterGone(f"{self._topic} has no letter at {partition}:{offset} any more")


async def read_dead_letters(address: str, topic: str) -> list[DeadLetter]:
    """Return the open letters, in the order of partitions and offsets.

    Raises:
        LogUnavailable: the brokers do not answer.
        NewerFormat: a letter is of a newer format than this version knows.
    """
    try:
        async with asyncio.timeout(_READ_S), open_admin(address) as admin:
            if topic not in await admin.list_topics():
                return []
            [described] = await admin.describe_topics([topic])
        numbers = sorted(each["partition"] for each in described["partitions"])
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer = await open_consumer(address, partitions, missing="earliest")
        try:
            return await _fold(consumer, partitions)
        finally:
            await consumer.stop()
    except CLIENT_ERRORS as error:
        raise LogUnavailable(f"{topic} can't be read: {error!r}") from error


def _value(record: Any) -> dict[str, Any]:
    check_format(record.headers, DEAD_LETTERS, "the dead letters", record.partition, record.offset)
    value: dict[str, Any] = orjson.loads(record.value)
    return value


async def _fold(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> list[DeadLetter]:
    starts = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    left = {each for each in partitions if starts[each] < ends[each]}
    for each in left:
        consumer.seek(each, starts[each])
    consumer.pause(*(each for each in partitions if each not in left))
    open_letters: dict[str, DeadLetter] = {}
    while left:
        found = await consumer.getmany(*left, timeout_ms=_POLL_MS)
        for place, records in found.items():
            for record in records:
                value = _value(record)
                if "resolved" not in value:
                    letter = DeadLetter.from_json(value, place.partition, record.offset)
                    open_letters[letter.id] = letter
                elif (known := open_letters.get(value["id"])) and known.offset <= value["offset"]:
                    del open_letters[known.id]
        left = {each for each in left if await consumer.position(each) < ends[each]}
    return sorted(open_letters.values(), key=lambda letter: (letter.partition, letter.offset))
