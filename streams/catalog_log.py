"""The catalog's topic: named JSON documents, each with a revision, the newest one wins.

Any node may append. A record counts only if it builds on the revision in force when a reader
meets it, so of two nodes that change one document at once the first in the log wins, for every
reader alike, and the other learns that it lost. Readers need no epochs here.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition

from streamtable.core.errors import StreamtableError
from streamtable.streams.formats import CATALOG, HEADER, LAYOUTS, check_format
from streamtable.streams.log import CLIENT_ERRORS
from streamtable.streams.partitions import open_consumer
from streamtable.streams.producers import close_producer
from streamtable.streams.security import client_options

__all__ = ["LAYOUT", "CatalogConflict", "CatalogLog", "CatalogUnavailable"]

logger = logging.getLogger(__name__)

Document = dict[str, Any]
Watcher = Callable[[str, Document | None], None]

LAYOUT: Final = "region/shards"
"""The document about the region's shards."""

_WAIT_S: Final = 10.0
_POLL_MS: Final = 1000


class CatalogConflict(StreamtableError, RuntimeError):
    """Another change of the same document came first."""


class CatalogUnavailable(StreamtableError, OSError):
    """The catalog's topic can't be written or read."""


class CatalogLog:
    """The documents of a region's catalog, followed in memory.

    Args:
        address: the brokers, `host:port,...`.
        topic: the catalog's topic, one partition.
        watcher: called with a document's name and its new content (None: it is gone) for each
            record that counts, in the log's order; also for those read at the start.
        fail: told of an error after which the catalog is not followed any more.
    """

    def __init__(
        self, address: str, topic: str, watcher: Watcher, fail: Callable[[BaseException], None]
    ) -> None:
        self._address = address
        self._partition = TopicPartition(topic, 0)
        self._watcher = watcher
        self._fail = fail
        self._revisions: dict[str, int] = {}
        self._documents: dict[str, Document | None] = {}
        self._void: dict[int, bool] = {}
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._readers: list[asyncio.Future[None]] = []
        self._next = 0
        self._producer: Any = None
        self._consumer: Any = None
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the catalog to its end, then follow it.

        Raises:
            CatalogUnavailable: the brokers do not answer. Nothing is left open.
            NewerFormat: it has a document of a newer format than this version knows.
        """
        try:
            await self._start()
        except CLIENT_ERRORS as error:
            await self.stop()
            raise CatalogUnavailable(
                f"the catalog {self._partition.topic} can't be read: {error!r}"
            ) from error
        except BaseException:
            await self.stop()
            raise
        self._follower = asyncio.create_task(self._follow())

    async def _start(self) -> None:
        self._producer = AIOKafkaProducer(
            **client_options(self._address), acks="all", enable_idempotence=True
        )
        await self._producer.start()
        self._consumer = await open_consumer(self._address, [self._partition], missing="earliest")
        await self._consumer.seek_to_beginning(self._partition)
        end = (await self._consumer.end_offsets([self._partition]))[self._partition]
        self._next = (await self._consumer.beginning_offsets([self._partition]))[self._partition]
        while self._next < end:
            await self._read()

    async def stop(self) -> None:
        """Stop following."""
        if self._follower is not None:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower
        if self._consumer is not None:
            with suppress(*CLIENT_ERRORS):
                await self._consumer.stop()
        if self._producer is not None:
            await close_producer(self._producer)

    @property
    def next(self) -> int:
        """The next offset to be read."""
        return self._next

    async def caught_up(self, offset: int) -> None:
        """Return when everything before `offset` is read."""
        while self._next < offset:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.append(waiter)
            await waiter

    async def put(self, name: str, document: Document | None) -> None:
        """Replace a document, on the revision this node knows; durable and in force on return.

        Args:
            name: `kind/name`, for example `table/users`.
            document: the new content; None removes it.

        Raises:
            CatalogConflict: another change of it came first; look again and decide anew.
            CatalogUnavailable: the outcome is unknown; the change may come into force yet.
        """
        base = self._revisions.get(name, 0)
        value = orjson.dumps({"base": base, "document": document})
        try:
            metadata = await self._send(name, value)
            async with asyncio.timeout(_WAIT_S):
                counts = await self._read_until(metadata.offset)
                if not counts:
                    await self._restate(name)
        except CLIENT_ERRORS as error:
            raise CatalogUnavailable(
                f"the catalog {self._partition.topic} did not answer: {error!r}"
            ) from error
        if not counts:
            raise CatalogConflict(f"{name} was changed by someone else at the same time")

    async def _restate(self, name: str) -> None:
        """Append what is in force again, so that compaction doesn't keep a lost change instead.

        It is read on return: whoever decides anew builds on it, and doesn't lose against it.
        """
        value = {"base": self._revisions[name], "document": self._documents[name]}
        metadata = await self._send(name, orjson.dumps(value))
        await self._read_until(metadata.offset)

    async def _send(self, name: str, value: bytes) -> Any:
        return await self._producer.send_and_wait(
            self._partition.topic,
            value,
            key=name.encode(),
            partition=0,
            headers=[(HEADER, str(LAYOUTS).encode())] if name == LAYOUT else [],
        )

    async def _read_until(self, offset: int) -> bool:
        """Wait until the record at `offset` was read; say whether it counts."""
        if offset < self._next:
            return self._void.pop(offset, None) is None
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[offset] = waiter
        try:
            return await waiter
        finally:
            del self._waiting[offset]

    async def _follow(self) -> None:
        while True:
            try:
                await self._read()
            except CLIENT_ERRORS as error:
                logger.warning("the catalog can't be read, trying again: %r", error)
                await asyncio.sleep(1)
            except Exception as error:  # noqa: BLE001 - nobody else would hear of it
                self._fail(error)
                return

    async def _read(self) -> None:
        found = await self._consumer.getmany(self._partition, timeout_ms=_POLL_MS)
        for record in found.get(self._partition, ()):
            check_format(record.headers, CATALOG, "the catalog", 0, record.offset)
            counts = self._take(record.key.decode(), orjson.loads(record.value))
            self._next = record.offset + 1
            waiter = self._waiting.get(record.offset)
            if waiter is not None and not waiter.done():
                waiter.set_result(counts)
            elif not counts:
                self._void[record.offset] = True
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)

    def _take(self, name: str, record: dict[str, Any]) -> bool:
        # Where compaction removed the records before this one, it is the first of its name.
        revision = self._revisions.get(name, record["base"])
        if record["base"] != revision:
            logger.info("a change of %s lost against another one", name)
            return False
        self._revisions[name] = revision + 1
        self._documents[name] = record["document"]
        self._watcher(name, record["document"])
        return True
