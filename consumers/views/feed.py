"""Feeds one view's table: each operation takes effect exactly once, in the source's order.

Every operation has a place: where in its source's log it follows from. For each pair of a source
shard and a target shard the node keeps the place through which the view is fed, in the commits
that bring the rows. A batch names the place before it and its last one; the node does nothing
unless it agrees about the place before. So whatever is sent twice, late, or by a rival, counts
once. Where the outcome of a batch is unknown, or the node does not agree, the node is asked for
the place, and what is not above it is left out.

That is exact because operations depend on nothing but the source's log: whoever computes them
again gets the same ones at the same places.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from streamtable.consumers.views.nodes import INGEST, TOKENS, Node, Place, tells_of_no_table
from streamtable.consumers.views.operations import Operation, merge
from streamtable.core.errors import StreamtableError

__all__ = [
    "CHANGE_STEP",
    "FENCE_STEPS",
    "Feed",
    "Fenced",
    "Rejected",
    "ShardsChanged",
    "ViewGone",
    "place_of",
]

logger = logging.getLogger(__name__)

CHANGE_STEP: Final = 1 << 20
"""The places of two changes of one commit are so far apart; between them are their parts."""

FENCE_STEPS: Final = 1000
"""A fence moves a place by so much at most, at random, so that no two are alike."""

_BATCH_OPERATIONS: Final = 2000
_BATCH_BYTES: Final = 512 * 1024
_ROOM_OPERATIONS: Final = 40_000
_ROOM_BYTES: Final = 32 * 1024 * 1024
_IN_FLIGHT: Final = 6
_BACKOFF_S: Final = (0.05, 2.0)
_STOP_S: Final = 5.0


class ViewGone(StreamtableError, LookupError):
    """The view's table is not there any more, or is not the one that was fed before."""


class Fenced(StreamtableError):
    """Another worker feeds what only one may feed."""


class ShardsChanged(StreamtableError):
    """The region has another number of shards than the feed was made for."""


class Rejected(StreamtableError, ValueError):
    """The node refuses what follows from one change."""


def place_of(offset: int, index: int) -> Place:
    """Return the place of a change: by its commit's offset and its index in it."""
    return offset, (index + 1) * CHANGE_STEP


class _Ticket:
    """Calls back when everything that it is for is done."""

    __slots__ = ("_done", "left")

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self.left = 1

    def finish(self) -> None:
        self.left -= 1
        if not self.left:
            self._done()


class _Entry:
    """Operations with one place on one target."""

    __slots__ = ("operations", "place", "size_bytes", "ticket")

    def __init__(
        self, place: Place, operations: Sequence[Operation], size_bytes: int, ticket: _Ticket
    ) -> None:
        self.place = place
        self.operations = operations
        self.size_bytes = size_bytes
        self.ticket = ticket


class Feed:
    """Feeds a view's table from any number of source shards.

    For each pair of a source and a target one batch is under way; what comes meanwhile makes the
    next one, so batches grow with the load and there is no delay without it.

    Args:
        node: takes the rows.
        view_id: id of the view's table.
        shards: how many shards the region has.
        exclusive: nobody else may feed it; a rival makes it fail with `Fenced`, and `open`
            makes rivals fail.
    """

    def __init__(self, node: Node, view_id: str, shards: int, *, exclusive: bool = False) -> None:
        self._node = node
        self._exclusive = exclusive
        self.shards = shards
        self._lanes: dict[int, list[_Lane]] = {}
        self._sending = asyncio.Semaphore(_IN_FLIGHT)
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.view_id = view_id
        self.pending = 0
        """Operations that the node does not have yet."""
        self.pending_bytes = 0
        self.latency_s = 0.0
        """How long a batch takes, lately."""
        self.reached: dict[int, int] = {}
        """By target shard, the offset in its log of the last commit that brought rows."""
        self.log_ends: Callable[[], Awaitable[Mapping[int, int]]] | None = None
        """Returns by shard where the log ends: for `reached`, where a batch's answer was lost."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever feeds looks at it; nobody needs a warning that nobody did.
        self.failed.add_done_callback(lambda failed: failed.cancelled() or failed.exception())

    def limit_in_flight(self, count: int) -> None:
        """Have no more than so many batches under way; to be called before the first one."""
        self._sending = asyncio.Semaphore(count)

    async def open(self, source: int) -> list[Place | None]:
        """Begin to feed from a shard; return by target through which place the view is fed.

        Waits for a node that answers.

        Raises:
            StreamtableError: the node refuses.
        """
        tokens = await self._tokens(source)
        lanes = [_Lane(self, source, target, token) for target, token in enumerate(tokens)]
        self._lanes[source] = lanes
        return tokens

    async def fence(self, source: int, target: int) -> Place | None:
        """Make rivals fail that feed one target from a source; return the place reached before.

        Raises:
            StreamtableError: the node refuses.
        """
        lane = self._lanes[source][target]
        while True:
            before = lane.token
            offset, number = before or (0, 0)
            through = (offset, number + secrets.randbelow(FENCE_STEPS) + 1)
            try:
                if await self.send(lane, before, through, []):
                    lane.token = through
                    return before
            except ConnectionError:
                await asyncio.sleep(_BACKOFF_S[0])
            lane.token = (await self._tokens(source))[target]

    async def close(self, source: int) -> None:
        """Stop feeding from a shard: nothing of it runs when this returns."""
        for lane in self._lanes.pop(source, ()):
            await lane.close()
        self.check_room()

    async def stop(self) -> None:
        """Stop feeding; what is under way is finished, the rest is left."""
        for source in list(self._lanes):
            await self.close(source)

    def push(
        self,
        source: int,
        steps: Iterable[tuple[Place, Sequence[Operation]]],
        done: Callable[[], None],
    ) -> None:
        """Have operations carried out.

        Args:
            source: the shard that they follow from; it is open.
            steps: places, growing, above all that came before; and what is done there.
            done: called once all of it is durable, or at once if there is nothing to do.
        """
        lanes = self._lanes[source]
        ticket = _Ticket(done)
        shards = self.shards
        for place, operations in steps:
            if len(operations) == 1:
                lanes[operations[0].hash % shards].add(place, operations, ticket)
                continue
            by_target: dict[int, list[Operation]] = {}
            for operation in operations:
                by_target.setdefault(operation.hash % shards, []).append(operation)
            for target, found in by_target.items():
                lanes[target].add(place, found, ticket)
        if self.pending > _ROOM_OPERATIONS or self.pending_bytes > _ROOM_BYTES:
            self._has_room.clear()
        ticket.finish()

    async def room(self) -> None:
        """Wait until there is room for more.

        Raises:
            StreamtableError: feeding has failed, as `failed` says.
        """
        if not self._has_room.is_set() and not self.failed.done():
            await _first(self._has_room, self.failed)
        self.check()

    async def drained(self) -> None:
        """Wait until the node has everything.

        Raises:
            StreamtableError: feeding has failed, as `failed` says.
        """
        while self.pending and not self.failed.done():
            self._idle.clear()
            await _first(self._idle, self.failed)
        self.check()

    def check(self) -> None:
        """Raise what feeding has failed with, if it has."""
        if self.failed.done():
            self.failed.result()

    def fail(self, error: StreamtableError) -> None:
        """Note that feeding has failed; nothing more is sent."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def check_room(self) -> None:
        """Tell those who wait for room, or for the end, when there is."""
        if self.pending <= _ROOM_OPERATIONS // 2 and self.pending_bytes <= _ROOM_BYTES // 2:
            self._has_room.set()
        if not self.pending:
            self._idle.set()

    async def send(
        self, lane: "_Lane", after: Place | None, through: Place, operations: list[bytes]
    ) -> bool:
        """Send a batch; say whether the node has carried it out. If not, it has done nothing.

        Raises:
            ConnectionError: whether it was carried out is unknown.
            ShardsChanged: rows belong elsewhere now; nothing was done.
            StreamtableError: the node refuses.
        """
        body = {
            "view": self.view_id,
            "source": lane.source,
            "target": lane.target,
            "shards": self.shards,
            "after": after,
            "through": through,
            "operations": [each.decode() for each in operations],
        }
        async with self._sending:
            started = time.monotonic()
            answer = await self._node.post(INGEST, body)
            self.latency_s += (time.monotonic() - started - self.latency_s) / 8
        if "shards" in answer:
            raise ShardsChanged(f"the region has {answer['shards']} shards, not {self.shards}")
        if not answer["applied"]:
            return False
        target, offset = answer["position"]
        self.reached[target] = max(offset, self.reached.get(target, -1))
        return True

    async def ask(self, source: int, target: int) -> Place | None:
        """Return the place through which a target is fed from a source."""
        return (await self._tokens(source))[target]

    async def note_end(self, target: int) -> None:
        """Take it that rows were brought by the last commit there is on a target."""
        if self.log_ends is not None:
            end = (await self.log_ends())[target]
            self.reached[target] = max(end - 1, self.reached.get(target, -1))

    @property
    def exclusive(self) -> bool:
        """Nobody else may feed it."""
        return self._exclusive

    async def _tokens(self, source: int) -> list[Place | None]:
        pause_s, longest_s = _BACKOFF_S
        while True:
            try:
                found = await self._node.get(TOKENS, {"view": self.view_id, "source": str(source)})
            except ConnectionError as error:
                logger.debug("the places of a view can't be asked for: %s", error)
            else:
                tokens: dict[str, Any] = found["tokens"]
                return [_place(tokens.get(str(target))) for target in range(self.shards)]
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)


class _Lane:
    """The way from one source shard to one target shard."""

    def __init__(self, feed: Feed, source: int, target: int, token: Place | None) -> None:
        self.source = source
        self.target = target
        self.token = token
        self._feed = feed
        self._entries: deque[_Entry] = deque()
        self._limit = _BATCH_OPERATIONS
        self._known = True
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def add(self, place: Place, operations: Sequence[Operation], ticket: _Ticket) -> None:
        """Take operations; those whose place is reached are left out."""
        offset, number = place
        if len(operations) == 1:
            self._add_part(place, operations, operations[0].size_bytes, ticket)
        else:
            for part, size_bytes in _parts(operations):
                self._add_part((offset, number), part, size_bytes, ticket)
                number += 1
        if self._task is None and self._entries and not self._feed.failed.done():
            self._task = asyncio.create_task(self._run())

    def _add_part(
        self, place: Place, operations: Sequence[Operation], size_bytes: int, ticket: _Ticket
    ) -> None:
        if self._known and self.token is not None and place <= self.token:
            return
        ticket.left += 1
        self._entries.append(_Entry(place, operations, size_bytes, ticket))
        self._feed.pending += len(operations)
        self._feed.pending_bytes += size_bytes

    async def close(self) -> None:
        """Finish what is under way, and leave the rest."""
        self._closing = True
        task = self._task  # it takes itself away when it ends
        if task is not None:
            await asyncio.wait({task}, timeout=_STOP_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for entry in self._entries:
            self._count_off(entry)
        self._entries.clear()

    async def _run(self) -> None:
        try:
            await self._send_all()
        except StreamtableError as error:
            self._feed.fail(error)
        except Exception as error:  # noqa: BLE001 - whoever feeds must learn of it
            self._feed.fail(StreamtableError(f"a view can't be fed: {error!r}"))
        finally:
            self._task = None

    async def _send_all(self) -> None:
        pause_s, longest_s = _BACKOFF_S
        while self._entries and not self._closing and not self._feed.failed.done():
            try:
                if not self._known:
                    await self._ask()
                    continue
                await self._send_batch()
                pause_s = _BACKOFF_S[0]
            except ConnectionError as error:
                self._known = False
                logger.debug("a view's rows can't be sent, trying again: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, longest_s)

    async def _send_batch(self) -> None:
        batch = self._next_batch()
        # Also where it all cancels out: the node has to know, should a part of it come again.
        operations = merge(op for entry in batch for op in entry.operations)
        through = batch[-1].place
        try:
            applied = await self._feed.send(self, self.token, through, operations)
        except (ConnectionError, ShardsChanged):
            raise
        except StreamtableError as error:
            self._refused(batch, error)
            return
        if applied:
            self.token = through
            self._finish(through)
            self._limit = min(2 * self._limit, _BATCH_OPERATIONS)
            return
        if self._feed.exclusive:
            raise Fenced("another worker has taken over")
        self._known = False

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        count = size_bytes = 0
        for entry in self._entries:
            count += len(entry.operations)
            size_bytes += entry.size_bytes
            if batch and (count > self._limit or size_bytes > _BATCH_BYTES):
                break
            batch.append(entry)
        return batch

    def _refused(self, batch: list[_Entry], error: StreamtableError) -> None:
        """Find out whose fault it is: try again with fewer, down to a single change's."""
        if tells_of_no_table(error):
            raise ViewGone(str(error)) from error
        if len(batch) == 1:
            offset, _ = batch[0].place
            raise Rejected(
                f"shard {self.source}, offset {offset}: the node refuses what follows from a "
                f"change: {error}"
            ) from error
        self._limit = max(1, sum(len(entry.operations) for entry in batch) // 2)

    async def _ask(self) -> None:
        token = await self._feed.ask(self.source, self.target)
        if self.token is not None and (token is None or token < self.token):
            raise ViewGone(f"the view has lost rows: it is fed through {token}, not {self.token}")
        # Only its own batch may have moved an exclusive feed: it alone has these places.
        moved = self._feed.exclusive and token != self.token
        if moved and all(entry.place != token for entry in self._entries):
            raise Fenced("another worker has taken over")
        if token != self.token:
            await self._feed.note_end(self.target)
        self.token = token
        self._known = True
        if token is not None:
            self._finish(token)

    def _finish(self, through: Place) -> None:
        """Take off what is done."""
        while self._entries and self._entries[0].place <= through:
            entry = self._entries.popleft()
            self._count_off(entry)
            entry.ticket.finish()
        self._feed.check_room()

    def _count_off(self, entry: _Entry) -> None:
        self._feed.pending -= len(entry.operations)
        self._feed.pending_bytes -= entry.size_bytes


def _parts(operations: Sequence[Operation]) -> Iterator[tuple[Sequence[Operation], int]]:
    """Split what is too much for a batch, always in the same way; tells the parts' sizes."""
    part: list[Operation] = []
    size_bytes = 0
    for operation in operations:
        added = operation.size_bytes
        if part and (size_bytes + added > _BATCH_BYTES or len(part) == _BATCH_OPERATIONS):
            yield part, size_bytes
            part, size_bytes = [], 0
        part.append(operation)
        size_bytes += added
    if part:
        yield part, size_bytes


async def _first(event: asyncio.Event, failed: asyncio.Future[None]) -> None:
    """Wait for an event, or for a failure."""
    waiting = asyncio.create_task(event.wait())
    both: set[asyncio.Future[Any]] = {waiting, failed}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _place(given: Any) -> Place | None:
    if given is None:
        return None
    offset, number = given
    return int(offset), int(number)
