"""Joins: rows of pairs of items of two tables that have the same join value.

Two stages, each as exact as a view.

**Stage 1** brings together what belongs together. A hidden view, `sides`, has the items of both
tables under their join value: partition key = the join value, sort key = the side and the item's
key. So all items of one join value are on one shard, and their changes are in one log, in order.

**Stage 2** follows the changes of `sides` in the order of that log. For a change of one side it
needs the items of the other side *as they were at that change*. What `sides` holds at the moment
won't do: if both items of a pair are removed one after the other, a reader that comes later sees
neither of them at either change, and never removes the pair's row. So stage 2 keeps its own copy,
`state`, of the items whose changes it has dealt with.

Why the rows are exact:

1. The rows' operations are computed from the change and from `state` as of just before the change.
   Both depend on nothing but the log of `sides`. So whoever computes them gets the same ones, and
   feeding them, see `feed`, has each take effect once.
2. `state` moves past a change only when all rows' operations of the change are durable. So after
   a crash `state` says where to go on, at a change up to which all is done; the operations of
   the first changes from there on may be done too, and are left out by their places.
3. `state` is read only while nobody else can write it: taking over a shard moves the place
   through which `state` is fed, so that a rival's next batch is refused, and it ends. Then
   `state` is read, where it is not in memory already.

After the last change of a join value both `state` and `sides` have its last items, and each
pair's rows are those of the last items, by induction over the log: every change replaces the rows
of the pairs that it concerns, computed with the items before, by those with the items after.

That needs one thing of the function: the rows of different join values must have different keys.
Their operations come from different logs, and nothing orders those of an item that left one join
value before those of the same item under the next. So one attribute of a row's key has to be the
join value, always the same one; a join whose rows have another key stops at the first of them.
Within one join value the rows of different pairs must have different keys too, which is seen where
it matters.
"""

import asyncio
import logging
import secrets
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import orjson

from streamtable.consumers.views.builds import SourceTable
from streamtable.consumers.views.feed import FENCE_STEPS, Feed, place_of
from streamtable.consumers.views.mapping import (
    Guard,
    InvalidRows,
    MappingFailed,
    Planned,
    Row,
    compare_rows,
    locate_rows,
)
from streamtable.consumers.views.nodes import Node, Place
from streamtable.consumers.views.operations import Operation, delete_row, put_row
from streamtable.consumers.views.sink import Reject, ViewStopped
from streamtable.consumers.views.specs import ViewSpec
from streamtable.consumers.views.tied_keys import TiedKeys
from streamtable.core.errors import StreamtableError
from streamtable.core.keys import KeyAttribute, KeySchema
from streamtable.core.limits import ITEM_BYTES
from streamtable.core.values import Item, item_size
from streamtable.streams.records import LogRecord

__all__ = ["SIDES_KEYS", "JoinSink", "SidesMapper", "SidesSink"]

logger = logging.getLogger(__name__)

SIDES_KEYS: Final = KeySchema((KeyAttribute("join", "S"),), (KeyAttribute("side", "B"),))
"""The key of `sides` and of `state`."""

_LEFT: Final = b"l"
_RIGHT: Final = b"r"
# In base64 the first character has six bits of the first byte, which tell the two apart.
_LEFT_PLACE: Final = b64encode(_LEFT).decode()[0]
_JOIN_CHARACTERS: Final = 400
_SIDE_BYTES: Final = 900
_CACHED_ITEMS: Final = 50_000
_CHECK_S: Final = 0.02
_STOP_S: Final = 10.0
_RETRY_S: Final = 0.2

Steps = list[tuple[Place, list[Operation]]]


class SidesMapper:
    """Makes operations on `sides`: an item is one row, under its join value.

    An item without the join attribute has no row; on the left of a left join it has one, alone
    under a value of its own.

    Args:
        spec: the join.
        sources: the two tables by name.
    """

    def __init__(self, spec: ViewSpec, sources: Mapping[str, SourceTable]) -> None:
        assert spec.on is not None
        left, right = spec.sources
        self._ways = {
            left: (_LEFT, spec.on[0], sources[left].keys),
            right: (_RIGHT, spec.on[1], sources[right].keys),
        }
        self._keeps_left = spec.join_kind == "left"

    def plan(self, source: str, old: Item | None, new: Item | None) -> Planned:
        """Return what a change of an item of one of the tables does to `sides`."""
        return Planned(compare_rows(self._rows(source, old), self._rows(source, new)))

    def _rows(self, source: str, item: Item | None) -> dict[bytes, Row]:
        if item is None:
            return {}
        side, attribute, keys = self._ways[source]
        key = orjson.dumps([item[name] for name in keys])
        if len(key) > _SIDE_BYTES:
            key = blake2b(key).digest()
        value = item.get(attribute)
        if value is not None:
            join = orjson.dumps(value).decode()
        elif side == _LEFT and self._keeps_left:
            join = "-" + b64encode(key).decode()
        else:
            return {}
        if len(join) > _JOIN_CHARACTERS:
            join = "#" + blake2b(join.encode()).hexdigest()
        place = b64encode(side + key).decode()
        row: Item = {"join": {"S": join}, "side": {"B": place}, "item": {"M": item}}
        if item_size(row) > ITEM_BYTES:
            raise InvalidRows(
                f"an item of {source} is too large for a join: with what tells it apart it has "
                f"more than {ITEM_BYTES} bytes"
            )
        return locate_rows(SIDES_KEYS, [row])


class SidesSink:
    """Stage 1's sink: a record is done when stage 2 has dealt with what follows from it.

    So the position of the join in its sources' log says what its rows have in them.

    Args:
        sink: feeds `sides`.
        feed: what it feeds it with.
        passed: returns by shard the first offset that stage 2 has not dealt with.
        log_ends: returns by shard where the log ends.
    """

    def __init__(
        self,
        sink: Any,
        feed: Feed,
        *,
        passed: Callable[[], Awaitable[Mapping[int, int]]],
        log_ends: Callable[[], Awaitable[Mapping[int, int]]],
    ) -> None:
        self._sink = sink
        self._feed = feed
        self._passed = passed
        self._log_ends = log_ends
        self._waiting: deque[tuple[dict[int, int], Callable[[], None], int]] = deque()
        self._task: asyncio.Task[None] | None = None
        feed.log_ends = log_ends

    def wants(self, tables: frozenset[str]) -> bool:
        """Say whether a commit that touches these tables is of interest."""
        return bool(self._sink.wants(tables))

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        """Take a record of one of the tables; errors are those of `ViewSink.take`."""
        await self._sink.take(record, partial(self._is_there, record.shard, done))

    async def assigned(self, shards: frozenset[int]) -> None:
        """Get ready for shards."""
        await self._sink.assigned(shards)
        # What was brought before this worker had them is at most there.
        for shard, end in (await self._log_ends()).items():
            self._feed.reached[shard] = max(end - 1, self._feed.reached.get(shard, -1))

    async def revoked(self, shards: frozenset[int]) -> None:
        """Leave shards."""
        await self._sink.revoked(shards)
        self._waiting = deque(each for each in self._waiting if each[2] not in shards)

    async def stop(self) -> None:
        """Finish what is in hand, within a time limit; the second stage is not waited for."""
        await self._sink.stop()
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            try:
                self._pass(await self._passed())
            except StreamtableError as error:
                logger.debug("where the second stage is can't be asked for: %s", error)

    def _is_there(self, shard: int, done: Callable[[], None]) -> None:
        self._waiting.append((dict(self._feed.reached), done, shard))
        if self._task is None:
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """See to it that what waits is done, until nothing waits."""
        try:
            while self._waiting:
                try:
                    self._pass(await self._passed())
                except StreamtableError as error:
                    logger.debug("where the second stage is can't be asked for: %s", error)
                    await asyncio.sleep(_RETRY_S)
                if self._waiting:
                    await asyncio.sleep(_CHECK_S)
        finally:
            self._task = None

    def _pass(self, passed: Mapping[int, int]) -> None:
        while self._waiting:
            needed, done, _ = self._waiting[0]
            if any(passed.get(shard, -1) <= offset for shard, offset in needed.items()):
                return
            self._waiting.popleft()
            done()


class _Partition:
    """The items of one join value, as of the last change that was dealt with.

    Attributes:
        sides: the items by their encoded sort key's text.
        pending: changes that `state` does not have durably yet.
    """

    __slots__ = ("pending", "sides")

    def __init__(self, sides: dict[str, Item]) -> None:
        self.sides = sides
        self.pending = 0


class _Open:
    """What runs for one shard of `sides`."""

    def __init__(self, reached: Place | None) -> None:
        self.reached = reached
        self.partitions: OrderedDict[str, _Partition] = OrderedDict()
        self.items = 0
        self.unwritten: deque[_Dealt] = deque()


class _Dealt:
    """A record whose changes are dealt with, but not in `state` yet."""

    __slots__ = ("done", "joins", "rows_there", "steps")

    def __init__(self, steps: Steps, joins: list[_Partition], done: Callable[[], None]) -> None:
        self.steps = steps
        self.joins = joins
        self.done = done
        self.rows_there = False


class JoinSink:
    """Stage 2's sink: it follows `sides`, and feeds the join's table and `state`.

    Args:
        spec: the join.
        rows: feeds its table.
        state: feeds `state`; it is exclusive.
        node: is asked for items in `state`.
        state_name: the name of that table.
        sides: name and id of the table that is followed.
        shards: how many shards there are.
        reject: puts changes among the dead letters, for a join that goes on without them.
    """

    def __init__(
        self,
        spec: ViewSpec,
        *,
        rows: Feed,
        state: Feed,
        node: Node,
        state_name: str,
        sides: tuple[str, str],
        shards: int,
        reject: Reject | None = None,
    ) -> None:
        assert spec.pairs is not None
        self._spec = spec
        self._pairs = spec.pairs
        self._keeps_left = spec.join_kind == "left"
        self._guard = Guard(spec)
        self._rows = rows
        self._state = state
        self._node = node
        self._state_name = state_name
        self._sides_name, self._sides_id = sides
        self._shards = shards
        self._reject = reject
        self._open: dict[int, _Open] = {}
        # Its batches of `state` can be told from those of any other worker.
        self._mark = secrets.randbelow(FENCE_STEPS)
        self._keys = TiedKeys(spec)

    def wants(self, tables: frozenset[str]) -> bool:
        """Say whether a commit that touches these tables is of interest."""
        return self._sides_name in tables

    async def assigned(self, shards: frozenset[int]) -> None:
        """Take over shards: from here on nobody else feeds `state` from them."""
        for shard in shards:
            await self._rows.open(shard)
            await self._state.open(shard)
            self._open[shard] = _Open(await self._state.fence(shard, shard))

    async def revoked(self, shards: frozenset[int]) -> None:
        """Leave shards."""
        for shard in shards:
            await self._rows.close(shard)
            await self._state.close(shard)
            self._open.pop(shard, None)

    async def stop(self) -> None:
        """Finish what is in hand, within a time limit."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._rows.drained()
                await self._state.drained()
        except (TimeoutError, StreamtableError) as error:
            logger.debug("a join stops with rows in hand: %r", error)
        await self._rows.stop()
        await self._state.stop()

    async def take(self, record: LogRecord, done: Callable[[], None]) -> None:
        """Deal with the changes of a commit.

        Raises:
            Fenced: another worker has taken over the shard.
            ViewStopped: the join's function failed.
            StreamtableError: feeding has failed.
        """
        await self._rows.room()
        await self._state.room()
        opened = self._open[record.shard]
        changes = []
        for index, change in enumerate(orjson.loads(record.value)["changes"]):
            if change["tableId"] != self._sides_id:
                continue
            if opened.reached is None or place_of(record.offset, index) > opened.reached:
                changes.append((index, change))
        await self._load(opened, {change["dynamodb"]["Keys"]["join"]["S"] for _, change in changes})
        steps: Steps = []
        kept: Steps = []
        joins: list[_Partition] = []
        for index, change in changes:
            join = change["dynamodb"]["Keys"]["join"]["S"]
            partition = opened.partitions[join]
            partition.pending += 1
            joins.append(partition)
            try:
                operations, failure = self._deal(opened, partition, change)
            except MappingFailed as error:
                raise ViewStopped(
                    f"the join value {join}, offset {record.offset} of the hidden table "
                    f"{self._sides_name}: {error}"
                ) from error.__cause__
            if failure is not None and self._reject is not None:
                await self._reject(record, index, failure)
            offset, number = place_of(record.offset, index)
            steps.append(((offset, number), operations))
            kept.append(((offset, number + self._mark), [_copy(change["dynamodb"])]))
        dealt = _Dealt(kept, joins, done)
        opened.unwritten.append(dealt)
        self._rows.push(record.shard, steps, partial(self._rows_are_there, record.shard, dealt))
        self._evict(opened)

    def _rows_are_there(self, shard: int, dealt: _Dealt) -> None:
        """Have `state` move on, in the log's order."""
        dealt.rows_there = True
        opened = self._open.get(shard)
        if opened is None:
            return
        while opened.unwritten and opened.unwritten[0].rows_there:
            first = opened.unwritten.popleft()
            self._state.push(shard, first.steps, partial(_finish, first))

    # Rows of pairs

    def _deal(
        self, opened: _Open, partition: _Partition, change: Mapping[str, Any]
    ) -> tuple[list[Operation], MappingFailed | None]:
        """Return what a change does to the rows, and note it."""
        images = change["dynamodb"]
        place = images["Keys"]["side"]["B"]
        old = partition.sides.get(place)
        row = images.get("NewImage")
        new = None if row is None else row["item"]["M"]
        is_left = _is_left(place)
        others = [item for side, item in partition.sides.items() if _is_left(side) is not is_left]
        lone = not is_left and not any(
            not _is_left(side) and side != place for side in partition.sides
        )
        before, _ = self._rows_of(is_left, old, others, lone=lone)
        after, failure = self._rows_of(is_left, new, others, lone=lone)
        if new is None:
            opened.items -= partition.sides.pop(place, None) is not None
        else:
            opened.items += place not in partition.sides
            partition.sides[place] = new
        return compare_rows(before, after), failure

    def _rows_of(
        self, is_left: bool, item: Item | None, others: list[Item], *, lone: bool
    ) -> tuple[dict[bytes, Row], MappingFailed | None]:
        """Return the rows of all pairs that an item is in, and why a pair has none.

        Args:
            is_left: on which side it is.
            item: the item; None if it is not there.
            others: the items of the other side.
            lone: it is the only one on the right, so that without it those on the left have none.
        """
        pairs: list[tuple[Item, Item | None]] = []
        if is_left:
            if item is not None:
                pairs = [(item, other) for other in others]
                if not others and self._keeps_left:
                    pairs = [(item, None)]
        elif item is not None:
            pairs = [(other, item) for other in others]
        elif lone and self._keeps_left:
            pairs = [(other, None) for other in others]
        found: dict[bytes, Row] = {}
        failure = None
        for left, right in pairs:
            rows, failed = self._guard.call(
                lambda left=left, right=right: locate_rows(  # type: ignore[misc]
                    self._spec.keys, self._pairs(left, right)
                )
            )
            failure = failed or failure
            for key, row in (rows or {}).items():
                self._keys.check(row, left)
                if key in found:
                    cause = InvalidRows(
                        f"two pairs have a row with the key {row.key}: a join's key must have in "
                        "it what tells both items apart"
                    )
                    raise MappingFailed(self._spec.key, cause)
                found[key] = row
        return found, failure

    # State

    async def _load(self, opened: _Open, joins: set[str]) -> None:
        for join in joins & opened.partitions.keys():
            opened.partitions.move_to_end(join)
        missing = sorted(joins - opened.partitions.keys())
        found = await asyncio.gather(*(self._query(join) for join in missing))
        for join, sides in zip(missing, found, strict=True):
            opened.partitions[join] = _Partition(sides)
            opened.items += len(sides) + 1

    async def _query(self, join: str) -> dict[str, Item]:
        """Return the items of a join value that are in `state`; waits for a node that answers."""
        body: dict[str, Any] = {
            "TableName": self._state_name,
            "KeyConditionExpression": "#j = :join",
            "ExpressionAttributeNames": {"#j": "join"},
            "ExpressionAttributeValues": {":join": {"S": join}},
            "ConsistentRead": True,
        }
        found: dict[str, Item] = {}
        while True:
            try:
                answer = await self._node.call("Query", body)
            except ConnectionError as error:
                logger.debug("a join's state can't be read, trying again: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            found |= {row["side"]["B"]: row["item"]["M"] for row in answer["Items"]}
            if "LastEvaluatedKey" not in answer:
                return found
            body["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _evict(self, opened: _Open) -> None:
        """Forget join values that have not been used for long, while there are too many."""
        for join in list(opened.partitions):
            if opened.items <= _CACHED_ITEMS:
                return
            partition = opened.partitions[join]
            if not partition.pending:
                opened.items -= len(partition.sides) + 1
                del opened.partitions[join]


def _finish(dealt: _Dealt) -> None:
    for partition in dealt.joins:
        partition.pending -= 1
    dealt.done()


def _copy(images: Mapping[str, Any]) -> Operation:
    """Return the operation that makes `state` have what `sides` has after a change."""
    key = images["Keys"]
    hash_, row_key = SIDES_KEYS.locate(b"", key)
    row = images.get("NewImage")
    return delete_row(hash_, row_key, key) if row is None else put_row(hash_, row_key, row)


def _is_left(place: str) -> bool:
    return place.startswith(_LEFT_PLACE)
