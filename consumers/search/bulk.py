"""Operations on documents, sent to Elasticsearch in bulk requests until each has its answer."""

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from elasticsearch import ApiError, AsyncElasticsearch

from streamtable.consumers.search.client import CLIENT_ERRORS, error_text, error_type

__all__ = ["BulkLimits", "BulkWriter", "Operation", "Rejection"]

logger = logging.getLogger(__name__)

_FILTER: Final = ("errors", "items.*.status", "items.*.error")
_MISSING_S: Final = 0.5
_LOG_S: Final = 60.0
# Those of one operation that say nothing about its document: who asks, whether the index is
# there, how busy it is, whether a disk is full.
_RETRIED: Final = frozenset({401, 403, 404, 408, 429})
# An alias of several indexes; somebody else's hand was in it.
_NO_WRITE_INDEX: Final = "no write index is defined for alias"
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_TOO_LARGE: Final = 413


class Operation:
    """One document to be put or removed, as one version of its item has it.

    It is sent with the item's version as an external one: Elasticsearch takes it if it has none
    or an equal or lower one, and otherwise refuses it, which counts as done. So operations may
    be sent twice and in any order.

    Attributes:
        lines: the lines of the bulk request.
        shard: number of the shard of the log that it comes from.
        subject: what it was made of, for whoever is told of its rejection.
        done: called once, when it is handled or rejected.
        dropped: nobody waits for it any more.
    """

    __slots__ = ("done", "dropped", "lines", "shard", "subject")

    def __init__(
        self,
        document_id: str,
        version: int,
        document: bytes | None,
        *,
        shard: int,
        subject: Any,
        done: Callable[[], None],
    ) -> None:
        action = "delete" if document is None else "index"
        about = {"_id": document_id, "version": version, "version_type": "external_gte"}
        lines = orjson.dumps({action: about})
        self.lines = lines + b"\n" if document is None else lines + b"\n" + document + b"\n"
        self.shard = shard
        self.subject = subject
        self.done = done
        self.dropped = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an operation will never be carried out.

    Attributes:
        kind: Elasticsearch's name of the error, or Python's.
        reason: its explanation.
        trace: the traceback, where it was an app's function that did not make a document.
    """

    kind: str
    reason: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class BulkLimits:
    """How much is sent and held at a time.

    Attributes:
        operations: in one request.
        bytes: in one request, unless a single operation has more.
        requests: in flight at a time.
        held_operations: waiting or in flight.
        held_bytes: waiting or in flight.
        backoff_s: the first pause after an outage; it doubles, and is drawn from its upper half.
        most_backoff_s: the longest pause.
    """

    operations: int = 1000
    bytes: int = 4 * 1024 * 1024
    requests: int = 2
    held_operations: int = 5000
    held_bytes: int = 16 * 1024 * 1024
    backoff_s: float = 0.2
    most_backoff_s: float = 10.0


Rejected = Callable[[Operation, Rejection], Awaitable[None]]


class BulkWriter:
    """Sends operations to one alias and keeps at each until it is handled.

    A request is sent as soon as there is something to send and fewer than `limits.requests` are
    in flight; what comes meanwhile is in the next. An outage (no answer, 429, 5xx, a missing
    index, missing rights) is waited out with growing pauses; at most `limits.held_operations`
    are held then, and `put` waits. An operation that Elasticsearch refuses for its document's
    sake is given to `rejected`, and is done when that returns.

    Args:
        client: Elasticsearch.
        alias: where to; an index of that name is never made by itself.
        rejected: takes what is refused. When it raises an error, it is called again later.
        limits: how much at a time.
    """

    def __init__(
        self,
        client: AsyncElasticsearch,
        alias: str,
        rejected: Rejected,
        limits: BulkLimits | None = None,
    ) -> None:
        self._client = client
        self._alias = alias
        self._rejected = rejected
        self._limits = limits or BulkLimits()
        self._queue: deque[Operation] = deque()
        self._queued = asyncio.Event()
        self._in_flight: set[Operation] = set()
        self._held_bytes = 0
        self._room = asyncio.Condition()
        self._senders: list[asyncio.Task[None]] = []
        self._logged = float("-inf")
        self.handled = 0
        """Operations done so far."""
        self.rejections = 0
        """How many of them were refused."""
        self.error: str | None = None
        """Why nothing gets through at the moment, or None."""
        self.missing = asyncio.Event()
        """Set when there is no index behind the alias."""

    @property
    def held(self) -> int:
        """Operations that wait or are in flight."""
        return len(self._queue) + len(self._in_flight)

    def held_by_shard(self) -> Counter[int]:
        """How many of them are each shard's."""
        return Counter(each.shard for each in (*self._queue, *self._in_flight))

    def start(self) -> None:
        """Begin to send."""
        assert not self._senders
        self._senders = [asyncio.create_task(self._send_on()) for _ in range(self._limits.requests)]

    async def put(self, operation: Operation) -> None:
        """Take an operation; returns when there is room for it, long before it is done."""
        if not self._has_room():
            async with self._room:
                await self._room.wait_for(self._has_room)
        self._queue.append(operation)
        self._held_bytes += len(operation.lines)
        self._queued.set()

    async def reject(self, operation: Operation, rejection: Rejection) -> None:
        """Have an operation rejected that is not sent at all; returns when it is done."""
        self._in_flight.add(operation)
        self._held_bytes += len(operation.lines)
        pause_s = self._limits.backoff_s
        while await self._settle([], [(operation, rejection)]):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._limits.most_backoff_s)

    async def flush(self) -> None:
        """Return when every operation taken so far and since is done.

        Raises:
            Exception: what has ended a sender; that is a mistake of ours.
        """
        async with self._room:
            await self._room.wait_for(self._is_idle)
        for sender in self._senders:
            if sender.done():
                sender.result()

    async def drop(self, shards: frozenset[int], limit_s: float) -> None:
        """Forget what is held of these shards; wait for what is in flight, but not for long.

        What is still in flight after `limit_s` may reach Elasticsearch, and loses there against
        what is newer.
        """
        for operation in (*self._queue, *self._in_flight):
            if operation.shard in shards:
                operation.dropped = True
        kept = deque(each for each in self._queue if not each.dropped)
        self._held_bytes -= sum(len(each.lines) for each in self._queue if each.dropped)
        self._queue = kept
        async with self._room:
            self._room.notify_all()
            try:
                async with asyncio.timeout(limit_s):
                    await self._room.wait_for(
                        lambda: not any(each.dropped for each in self._in_flight)
                    )
            except TimeoutError:
                logger.debug("%s: requests in flight are left to themselves", self._alias)

    async def close(self) -> None:
        """End at once; what is held is not done."""
        for sender in self._senders:
            sender.cancel()
        if self._senders:
            await asyncio.wait(self._senders)
        for operation in (*self._queue, *self._in_flight):
            operation.dropped = True

    def _has_room(self) -> bool:
        limits = self._limits
        return self.held < limits.held_operations and self._held_bytes < limits.held_bytes

    def _is_idle(self) -> bool:
        return self.held == 0 or any(sender.done() for sender in self._senders)

    # Sending

    async def _send_on(self) -> None:
        try:
            while True:
                while not self._queue:
                    self._queued.clear()
                    await self._queued.wait()
                batch = self._next_batch()
                self._in_flight.update(batch)
                await self._deliver(batch)
        finally:
            async with self._room:
                self._room.notify_all()

    def _next_batch(self) -> list[Operation]:
        batch = [self._queue.popleft()]
        size = len(batch[0].lines)
        while self._queue and len(batch) < self._limits.operations:
            size += len(self._queue[0].lines)
            if size > self._limits.bytes:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _deliver(self, batch: list[Operation]) -> None:
        """Send a batch until each of its operations is done or dropped."""
        pause_s = self._limits.backoff_s
        while True:
            before = len(batch)
            batch = await self._attempt(batch)
            batch = await self._without_dropped(batch)
            if not batch:
                return
            if len(batch) < before:
                pause_s = self._limits.backoff_s
            most = _MISSING_S if self.missing.is_set() else self._limits.most_backoff_s
            wait_s = min(pause_s, most)
            # So that several writers do not come back at the same moment.
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, self._limits.most_backoff_s)

    async def _attempt(self, batch: list[Operation]) -> list[Operation]:
        """Send a batch once and return what is to be sent again."""
        # The client sends lines that are bytes as they are; its types do not say so.
        lines: list[Any] = [b"".join(each.lines for each in batch)]
        try:
            answer = await self._client.bulk(
                operations=lines,
                index=self._alias,
                require_alias=True,
                filter_path=_FILTER,
            )
        except CLIENT_ERRORS as error:
            if not _is_about_the_request(error):
                self._note(error_text(error))
                return batch
            if len(batch) > 1:
                middle = len(batch) // 2
                left = await self._attempt(batch[:middle])
                return left + await self._attempt(batch[middle:])
            reason = Rejection(error_type(error) or "request_rejected", error_text(error))
            return await self._settle([], [(batch[0], reason)])
        return await self._read_answer(batch, answer.body)

    async def _read_answer(
        self, batch: list[Operation], answer: Mapping[str, Any]
    ) -> list[Operation]:
        if not answer["errors"]:
            self.missing.clear()
            self._note(None)
            return await self._settle(batch, [])
        done: list[Operation] = []
        refused: list[tuple[Operation, Rejection]] = []
        again: list[Operation] = []
        why = None
        for operation, item in zip(batch, answer["items"], strict=True):
            (result,) = item.values()
            status, error = result["status"], result.get("error")
            if error is None or status == _CONFLICT:
                done.append(operation)
            elif status in _RETRIED or status >= 500 or _NO_WRITE_INDEX in error["reason"]:
                why = (status, error)
                again.append(operation)
            else:
                refused.append((operation, Rejection(error["type"], _reason(error))))
        if why is None:
            self.missing.clear()
            self._note(None)
        else:
            status, error = why
            if status == _NOT_FOUND:
                self.missing.set()
                self.error = f"there is no index {self._alias} yet"
            else:
                self._note(f"{status} {error['type']}: {error['reason']}")
        return again + await self._settle(done, refused)

    async def _settle(
        self, done: list[Operation], refused: list[tuple[Operation, Rejection]]
    ) -> list[Operation]:
        """Take operations off the list, and return those whose rejection could not be noted."""
        again = []
        finished = list(done)
        for operation, rejection in refused:
            if not operation.dropped:
                try:
                    await self._rejected(operation, rejection)
                except Exception as error:  # noqa: BLE001 - whatever it was, it must not be lost
                    self._note(f"a rejected document could not be noted: {error!r}")
                    again.append(operation)
                    continue
                self.rejections += 1
            finished.append(operation)
        await self._finish(finished)
        return again

    async def _without_dropped(self, batch: list[Operation]) -> list[Operation]:
        dropped = [each for each in batch if each.dropped]
        if dropped:
            await self._finish(dropped)
        return [each for each in batch if not each.dropped]

    async def _finish(self, operations: list[Operation]) -> None:
        for operation in operations:
            self._in_flight.discard(operation)
            self._held_bytes -= len(operation.lines)
            if not operation.dropped:
                self.handled += 1
                operation.done()
        async with self._room:
            self._room.notify_all()

    def _note(self, error: str | None) -> None:
        """Keep what keeps operations from getting through, and log it now and then."""
        now = asyncio.get_running_loop().time()
        if error is not None and now > self._logged + _LOG_S:
            self._logged = now
            logger.warning("%s: Elasticsearch takes nothing: %s", self._alias, error)
        elif error is None and self.error is not None:
            self._logged = float("-inf")
            logger.warning("%s: Elasticsearch takes documents again", self._alias)
        self.error = error


def _is_about_the_request(error: BaseException) -> bool:
    """Whether an error is for what the request has in it, not for when or by whom it is sent.

    Any other 400 (a server of another version, for example) would be the same for each document:
    that is waited out, loudly, rather than taken as a rejection of all of them.
    """
    if not isinstance(error, ApiError):
        return False
    if error.status_code == _TOO_LARGE:
        return True
    return error_type(error) == "action_request_validation_exception"


def _reason(error: Mapping[str, Any]) -> str:
    cause = error.get("caused_by")
    reason = str(error.get("reason"))
    return f"{reason}: {cause['reason']}" if isinstance(cause, Mapping) else reason
