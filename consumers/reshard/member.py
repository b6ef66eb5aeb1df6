"""What each node does while the number of shards changes.

The catalog says how far that is, and every node follows it. While the shards' rows are copied, all
goes on as ever. From when the catalog says `swapping` until it says what has become of it, the node
lets no request through: those under way end, the others wait. Whoever leads (see `driver`) then has
each owner append a split record, behind which it writes nothing more until that is decided, and
once everything before those records has got to where it belongs, has the catalog name the new
number. From there on every node finds an item's shard by it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from streamtable.consumers.checkpoints.objects import StorageUnavailable
from streamtable.consumers.checkpoints.taker import Checkpointer
from streamtable.consumers.reshard.cleaner import Cleaner
from streamtable.consumers.reshard.copies import Copies
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.errors import ServiceUnavailable
from streamtable.core.layouts import LayoutDocument
from streamtable.streams.catalog import Catalog
from streamtable.streams.gate import Gate
from streamtable.streams.held import HeldShards
from streamtable.streams.owner import StateUnavailable
from streamtable.streams.records import SplitMark
from streamtable.streams.shard import Shard

__all__ = ["Growing", "ReshardMember"]

logger = logging.getLogger(__name__)

_DRAIN_S: Final = 3.0
_LOOK_S: Final = 0.005
_SOON_S: Final = 0.1
_RETRY_S: Final = 1.0

NodeCall = Callable[[Any], Awaitable[Any]]


class Growing(Protocol):
    """Follows the shards that the group gives this node: `Agents`."""

    async def copy(self) -> None:
        """Have the rows copied of the shards that are to be."""

    async def grow(self) -> None:
        """Take those of the shards that are new by now."""

    @property
    def assigned(self) -> frozenset[int]:
        """The shards that are this node's."""

    @property
    def waiting(self) -> Mapping[int, str]:
        """By shard of this node why it is not served yet."""


class ReshardMember:
    """One node's part.

    Args:
        catalog: says how far it is.
        gate: before the requests of this node.
        held: this node's shards.
        stores: their stores.
        copies: makes the rows of shards that are to be.
        cleaner: shows and keeps only what is a shard's own.
        agents: follow the shards.
        checkpointer: takes checkpoints; None where none are taken.
        grown: called when there are more shards, before requests go on.
        all_held: whether requests go on only when this node serves every shard: it has them all.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        gate: Gate,
        held: HeldShards,
        stores: Mapping[int, ShardStore],
        copies: Copies,
        cleaner: Cleaner,
        agents: Growing,
        checkpointer: Callable[[], Checkpointer | None],
        grown: Callable[[int], None],
        all_held: bool,
    ) -> None:
        self._catalog = catalog
        self._layout = catalog.layout
        self._gate = gate
        self._held = held
        self._stores = stores
        self._copies = copies
        self._cleaner = cleaner
        self._agents = agents
        self._checkpointer = checkpointer
        self._grown = grown
        self._all_held = all_held
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving: asyncio.Task[None] | None = None
        self._unsaved: str | None = None
        self._shut_at = 0.0
        self.paused_s: float | None = None
        """How long requests waited the last time."""

    @property
    def calls(self) -> dict[str, NodeCall]:
        """What other nodes ask of this one."""
        return {
            "reshard_drained": self._drained,
            "reshard_split": self._split,
            "reshard_copies": self._status,
            "reshard_checkpoint": self._checkpoint,
        }

    def start(self) -> None:
        """Follow the catalog until `stop`."""
        self._layout.watch(self._look)
        self._shut()

    async def stop(self) -> None:
        """Follow it no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_decided(self, split: SplitMark) -> bool:
        """Whether it is known here what became of an attempt, by a shard's split record.

        If not, `release` follows when it is.
        """
        if self._catalog.next < split.catalog:
            self._start(self._wait_for(split))
        return self._is_known(split)

    async def _wait_for(self, split: SplitMark) -> None:
        """Have shards go on that wait for a catalog that this node has not read so far."""
        await self._catalog.caught_up(split.catalog)
        self._release(split=False)

    # The catalog

    def _look(self, before: LayoutDocument) -> None:
        document = self._layout.document
        if document.count != before.count:
            for number, store in self._stores.items():
                self._cleaner.show_own(number, store)
        self._shut()
        if document.count != before.count:
            self._release(split=True)
            self._start(self._go_on_with_more())
        elif document.reshard is None or document.reshard.phase != "swapping":
            self._release(split=False)
            self._open()
        if document.reshard != before.reshard:
            self._start(self._agents.copy())

    def _shut(self) -> None:
        reshard = self._layout.document.reshard
        if reshard is not None and reshard.phase == "swapping":
            self._shut_at = time.monotonic()
            self._gate.shut()

    def _open(self) -> None:
        if self._shut_at:
            self.paused_s = time.monotonic() - self._shut_at
            self._shut_at = 0.0
            logger.info("requests waited %.0f ms for a split", self.paused_s * 1000)
        self._gate.open()

    def _release(self, *, split: bool) -> None:
        for shard in self._held.values():
            mark = shard.state.split
            if mark is None or self._is_known(mark):
                shard.owner.release(split=split)

    def _is_known(self, mark: SplitMark) -> bool:
        return self._catalog.next >= mark.catalog and not self._layout.swapping(mark.attempt)

    async def _go_on_with_more(self) -> None:
        count = self._layout.count
        await self._agents.grow()
        while self._all_held and not self._serve(range(count)):  # noqa: ASYNC110 - owners tell nobody
            await asyncio.sleep(_LOOK_S)
        self._grown(count)
        if self._layout.count == count:
            self._open()
        # Whoever takes over a new shard finds it in a checkpoint.
        while not self._serve(self._agents.assigned):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(_SOON_S)
        checkpointer = self._checkpointer()
        if checkpointer is not None:
            await self._save(checkpointer)

    def _serve(self, numbers: Iterable[int]) -> bool:
        return all(n in self._held and self._held[n].owner.serving for n in numbers)

    def _start(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the change of the number of shards", exc_info=task.exception())

    # What the leader asks

    def _check_attempt(self, attempt: Any) -> None:
        if not self._layout.swapping(attempt):
            raise ServiceUnavailable("This attempt to change the number of shards is over.")

    def _owned(self) -> list[Shard]:
        return [shard for shard in self._held.values() if shard.owner.wanted]

    async def _drained(self, attempt: Any) -> None:
        """Return when no request is under way on this node, and no transaction on its shards."""
        self._check_attempt(attempt)
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self._gate.empty()
                while any(shard.ledger.prepared for shard in self._owned()):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise ServiceUnavailable("Requests or transactions took too long to end.") from None

    async def _split(self, attempt: Any) -> list[tuple[int, int]]:
        """Append split records to this node's shards; return their offsets by shard."""
        self._check_attempt(attempt)
        shards = self._owned()
        return list(await asyncio.gather(*(self._split_one(shard, attempt) for shard in shards)))

    async def _split_one(self, shard: Shard, attempt: str) -> tuple[int, int]:
        self._check_attempt(attempt)
        shard.owner.hold()
        await shard.owner.settled()
        # Another attempt may be under way by now, and a record of this one would hide its own.
        self._check_attempt(attempt)
        if shard.ledger.prepared:
            raise ServiceUnavailable(f"A transaction is under way on shard {shard.number}.")
        offset = await shard.owner.split(attempt, self._catalog.next)
        async with asyncio.timeout(_DRAIN_S):
            # What is laid over the rows is of before the split: from here on the rows have it.
            while shard.state.applied < offset:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(_LOOK_S)
        return shard.number, offset

    async def _status(self, _arguments: Any) -> Any:
        """Tell how far copies are here, and what is left to do before a swap and after it."""
        copies = {str(number): each._asdict() for number, each in self._copies.status().items()}
        errors = [*self._agents.waiting.values()]
        saved = self._is_saved()
        if self._unsaved is not None and not saved:
            errors.append(self._unsaved)
        return {
            "copies": copies,
            "saved": saved,
            "errors": errors,
            "cleaning": self._cleaner.left(),
            "shut": bool(self._shut_at),
            "paused_s": self.paused_s,
        }

    def _is_saved(self) -> bool:
        """Whether there is a checkpoint of each of this node's shards, if it takes any."""
        checkpointer = self._checkpointer()
        return checkpointer is None or all(
            shard.number in checkpointer.last for shard in self._owned()
        )

    async def _checkpoint(self, _arguments: Any) -> None:
        """Begin to take checkpoints of this node's shards, if it takes any."""
        checkpointer = self._checkpointer()
        if checkpointer is not None and (self._saving is None or self._saving.done()):
            self._saving = self._start(self._save(checkpointer))

    async def _save(self, checkpointer: Checkpointer) -> None:
        try:
            await checkpointer.take()
        except (StorageUnavailable, StateUnavailable) as error:
            self._unsaved = f"no checkpoint: {error}"
            logger.warning("%s", self._unsaved)
            await asyncio.sleep(_RETRY_S)
        else:
            self._unsaved = None
