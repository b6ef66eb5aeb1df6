"""Leads the change of the number of shards: from what was asked for to what the catalog says.

The owner of the first shard leads. All that it needs to know is in the catalog, so whoever leads
next goes on, or gives up an attempt that was begun. Up to the record that names the new number
everything can be given up, and nothing was changed; that record is the change.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiokafka.errors import KafkaError

from streamtable.core.documents import ACTIVE
from streamtable.core.errors import ApiError, ServiceUnavailable, StreamtableError, ValidationError
from streamtable.core.layouts import LayoutDocument, Reshard, Split, check_target
from streamtable.streams.background import Background
from streamtable.streams.catalog import Catalog, LayoutChangedMeanwhile
from streamtable.streams.log import CLIENT_ERRORS
from streamtable.streams.routes import AskShard
from streamtable.streams.topics import Topics

__all__ = ["AskAll", "ReshardDriver"]

logger = logging.getLogger(__name__)

AskAll = Callable[[str, Any], Awaitable[Mapping[str, Any]]]
"""Has every node carry something out: its name, its arguments; the answers by address."""

_LEADING: Final = 0
_LOOK_S: Final = 0.25
_SOON_S: Final = 0.005
_SWAP_S: Final = 6.0
_RETRY_S: Final = 2.0
_ATTEMPTS: Final = 20
_CLOSE_RECORDS: Final = 2000


class ReshardDriver(Background):
    """Leads, on the node that owns the first shard.

    Args:
        address: the brokers, `host:port,...`.
        topics: the region's topics.
        catalog: says how far it is.
        ask: asks a shard's owner.
        ask_all: asks every node.
        owner: the address of the node that is to have a shard; None where that does not matter.
        index_end: returns the end of a shard's part of the indexes' log.
        leads: says whether this node owns a shard.
    """

    def __init__(
        self,
        *,
        address: str,
        topics: Topics,
        catalog: Catalog,
        ask: AskShard,
        ask_all: AskAll,
        owner: Callable[[int], str | None],
        index_end: Callable[[int], Awaitable[int]],
        leads: Callable[[int], bool],
    ) -> None:
        self._address = address
        self._topics = topics
        self._catalog = catalog
        self._layout = catalog.layout
        self._ask = ask
        self._ask_all = ask_all
        self._owner = owner
        self._index_end = index_end
        self._leads = leads
        self._attempt: str | None = None
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Lead until `stop`, whenever there is something to lead."""
        self._layout.watch(lambda _before: self._wake.set())
        self._wake.set()
        super().start()

    def look(self, shard: int) -> None:
        """Lead from now on, if that shard is the one whose owner does."""
        if shard == _LEADING:
            self._wake.set()

    async def ask_for(self, target: int) -> None:
        """Have the number of shards made larger; returns when that is noted.

        Raises:
            ValidationError: it can't be made that, or is being changed to another number.
        """
        document = self._layout.document
        if document.reshard is not None:
            if document.reshard.target == target:
                return
            raise ValidationError(
                f"The number of shards is being changed to {document.reshard.target}. Wait for "
                "that, or give it up: streamtable reshard --cancel"
            )
        if document.count == target:
            return
        check_target(document.count, target)
        reshard = Reshard(id=uuid.uuid4().hex, target=target, since=time.time())
        await self._put(document, reshard=reshard, failed=None)

    async def give_up(self) -> bool:
        """Give up what is under way; say whether anything was."""
        document = self._layout.document
        if document.reshard is None:
            return False
        await self._put(document, reshard=None, failed="it was given up")
        return True

    async def status(self) -> dict[str, Any]:
        """Tell how far it is. While a node does not answer, nothing is known of requests."""
        document = self._layout.document
        answers: Mapping[str, Any] = {}
        errors = set()
        away = False
        try:
            answers = await self._ask_all("reshard_copies", None)
        except (ApiError, StreamtableError) as error:
            away = True
            errors.add(str(error))
        for answer in answers.values():
            errors.update(answer["errors"])
        copies = [each for answer in answers.values() for each in answer["copies"].values()]
        paused = [each["paused_s"] for each in answers.values() if each["paused_s"] is not None]
        return {
            "shards": document.count,
            "reshard": None if document.reshard is None else document.reshard.model_dump(),
            "failed": document.failed,
            "lag": sum(each["lag"] for each in copies),
            "errors": sorted(errors | {each["error"] for each in copies if each["error"]}),
            "waiting": away or any(answer["shut"] for answer in answers.values()),
            "cleaning": sum(answer["cleaning"] for answer in answers.values()),
            "paused_s": max(paused, default=None),
        }

    async def _put(self, document: LayoutDocument, **changes: Any) -> LayoutDocument:
        changed = document.model_copy(update=changes)
        await self._catalog.put_layout(changed)
        return changed

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._layout.document.reshard is not None and self._leads(_LEADING):
                try:
                    await self._go_on()
                except (LayoutChangedMeanwhile, TimeoutError):
                    pass
                except (ApiError, StreamtableError, KafkaError, *CLIENT_ERRORS) as error:
                    logger.warning("the number of shards is not changed yet: %s", error)
                    await asyncio.sleep(_RETRY_S)

    async def _go_on(self) -> None:
        """Do the next step; what is begun and can't be ended is given up."""
        document = self._layout.document
        reshard = document.reshard
        if reshard is None:
            return
        if reshard.phase == "swapping":
            # Whoever led it is gone, or did not learn what became of its record.
            await self._take_back(document, reshard, "the node that led it was lost")
            return
        # 1. Room in the log, and something for other nodes to begin with.
        await self._ask_all("reshard_checkpoint", None)
        await self._topics.grow(self._address, reshard.target)
        # 2. The rows of the new shards, while everything goes on.
        await self._until_copied(reshard)
        # 3. The swap.
        attempt = reshard.model_copy(update={"id": uuid.uuid4().hex, "phase": "swapping"})
        document = await self._put(document, reshard=attempt)
        try:
            async with asyncio.timeout(_SWAP_S):
                split = await self._swap(document, attempt)
        except (ApiError, StreamtableError, TimeoutError, *CLIENT_ERRORS) as error:
            await self._take_back(document, attempt, str(error) or "it took too long")
            await asyncio.sleep(_RETRY_S)
            return
        await self._put(
            document,
            count=attempt.target,
            splits=(*document.splits, split),
            reshard=None,
        )
        logger.info("the region has %d shards now", attempt.target)

    async def _take_back(self, document: LayoutDocument, reshard: Reshard, why: str) -> None:
        """Let requests go on with as many shards as before; it is tried again for a while."""
        logger.warning("the number of shards is not changed yet: %s", why)
        attempts = reshard.attempts + 1
        if attempts >= _ATTEMPTS:
            await self._put(document, reshard=None, failed=why)
            return
        again = {"id": uuid.uuid4().hex, "phase": "copying", "attempts": attempts, "error": why}
        await self._put(document, reshard=reshard.model_copy(update=again))

    def _is_current(self, reshard: Reshard) -> None:
        if self._layout.document.reshard != reshard:
            raise LayoutChangedMeanwhile

    async def _until_copied(self, reshard: Reshard) -> None:
        """Return when every new shard's rows are nearly all there, where it is to be.

        And each parent has a checkpoint: with that any other node can have a new shard, too.
        """
        while True:
            self._is_current(reshard)
            if not self._leads(_LEADING):
                raise ServiceUnavailable("Another node leads.")
            answers = await self._ask_all("reshard_copies", None)
            copies = self._placed(answers)
            new = range(self._layout.count, reshard.target)
            if not all(answer["saved"] for answer in answers.values()):
                await self._ask_all("reshard_checkpoint", None)
            elif (
                all(
                    number in copies
                    and copies[number]["error"] is None
                    and copies[number]["lag"] <= _CLOSE_RECORDS
                    for number in new
                )
                and self._indexes_built()
            ):
                return
            await asyncio.sleep(_LOOK_S)

    def _indexes_built(self) -> bool:
        return all(
            index.document.status == ACTIVE
            for table in self._catalog.tables()
            for index in table.indexes.values()
            if index.is_global
        )

    def _placed(self, answers: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """How far each new shard's copy is on the node that is to own it."""
        return {
            int(number): copy
            for address, answer in answers.items()
            for number, copy in answer["copies"].items()
            if self._owner(int(number)) in (None, address)
        }

    async def _swap(self, document: LayoutDocument, attempt: Reshard) -> Split:
        """Bring everything to rest, and everything written to where it belongs."""
        parents = range(document.count)
        # 1. Requests and transactions end.
        await self._ask_all("reshard_drained", attempt.id)
        if not self._indexes_built():
            raise ServiceUnavailable("An index is being built.")
        # 2. The shards are split: nothing is written behind that.
        answers = await self._ask_all("reshard_split", attempt.id)
        ends = {number: offset for answer in answers.values() for number, offset in answer}
        if set(ends) != set(parents):
            raise ServiceUnavailable("A shard moved meanwhile.")
        # 3. What was written before is in every index.
        for number in parents:
            while await self._ask(number, "sent", ends[number]) is None:  # noqa: ASYNC110 - nobody is told how far they are
                await asyncio.sleep(_SOON_S)
        index_ends = [await self._index_end(number) for number in parents]
        for number in parents:
            while await self._ask(number, "index_offset", None) < index_ends[number]:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(_SOON_S)
        # 4. And in the copies.
        while not await self._are_whole(document, attempt, index_ends):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(_SOON_S)
        return Split(
            before=document.count,
            after=attempt.target,
            ends=tuple(ends[number] for number in parents),
            index_ends=tuple(index_ends),
            at=time.time(),
        )

    async def _are_whole(
        self, document: LayoutDocument, attempt: Reshard, index_ends: list[int]
    ) -> bool:
        copies = self._placed(await self._ask_all("reshard_copies", None))
        return all(
            number in copies
            and copies[number]["split"] == attempt.id
            and copies[number]["index_offset"] >= index_ends[number % document.count]
            for number in range(document.count, attempt.target)
        )
