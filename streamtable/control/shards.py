"""Where each shard is and how it does: the page that `streamtable shards` shows.

| page | |
|---|---|
| `GET /_streamtable/shards` | every shard: owner, epoch, lag, writes, its busiest items |
| `POST /_streamtable/drain` | hands this node's shards over to others |
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from streamtable.consumers.indexes.settling import Applied
from streamtable.core.errors import ApiError
from streamtable.streams.fetcher import Fetches, LogTrimmed
from streamtable.streams.layout import Layout
from streamtable.streams.log import LogUnavailable
from streamtable.streams.peers.calls import ShardCall
from streamtable.streams.records import COMMIT
from streamtable.streams.routes import AskShard
from streamtable.streams.shard import Shard

__all__ = ["ShardPages", "status_calls"]

_PATIENCE_S: Final = 2.0
_WINDOW_MS: Final = 10_000
_SAMPLE_BYTES: Final = 1024 * 1024
_BUSIEST: Final = 3
_LEAST_SHARE: Final = 0.01


class ShardPages:
    """The pages.

    Args:
        layout: the region's shards.
        ask: asks a shard's owner.
        owner: tells the address of the node that has a shard, None where none is known.
        log: reads the change log: what was written lately is counted there.
        drain: hands this node's shards over.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        ask: AskShard,
        owner: Callable[[int], str | None],
        log: Fetches,
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        self._layout = layout
        self._ask = ask
        self._owner = owner
        self._log = log
        self._drain = drain

    async def list(self, _query: Mapping[str, str]) -> dict[str, Any]:
        """Answer how the shards are; `serving` is false for one whose owner does not answer.

        `reshard` has target and phase of a change of their number, None where none is under way.
        """
        reshard = self._layout.document.reshard
        found = await asyncio.gather(*(self._describe(number) for number in self._layout))
        known = None if reshard is None else {"target": reshard.target, "phase": reshard.phase}
        return {"shards": found, "reshard": known}

    async def drain(self, _body: dict[str, Any]) -> dict[str, Any]:
        """Hand this node's shards over to others; answered when they serve.

        Raises:
            ValidationError: there is no other node.
            ServiceUnavailable: none has taken all of them in time.
        """
        await self._drain()
        return {"drained": True}

    async def _describe(self, number: int) -> dict[str, Any]:
        described: dict[str, Any] = {
            "shard": number,
            "owner": self._owner(number),
            "serving": False,
            "error": None,
        }
        try:
            async with asyncio.timeout(_PATIENCE_S):
                described |= await self._ask(number, "status", None)
                described |= await self._busiest(number)
        except TimeoutError:
            described["error"] = "its owner does not answer"
        except (ApiError, LogUnavailable, LogTrimmed) as error:
            described["error"] = str(error)
        return described

    async def _busiest(self, number: int) -> dict[str, Any]:
        """Count what the log has of the last seconds, or of its last part where that is much."""
        now_ms = time.time_ns() // 1_000_000
        since = await self._log.offset_at(number, now_ms - _WINDOW_MS)
        if since is None:
            return {"writes_per_s": 0.0, "busiest": []}
        _, end = await self._log.bounds(number)
        first = await self._log.fetch(number, since, _SAMPLE_BYTES)
        records = first.records
        counted = Counter(
            (change.table, orjson.dumps(change.keys).decode())
            for record in records
            if record.kind == COMMIT
            for change in record.changes()
        )
        changes = counted.total()
        if first.next < end and records:
            # Only a part was read; the rest is taken to be like it.
            changes = round(changes * (end - since) / (first.next - since))
        busiest = [
            {"table": table, "keys": orjson.loads(keys), "share": round(count / counted.total(), 3)}
            for (table, keys), count in counted.most_common(_BUSIEST)
            if count >= counted.total() * _LEAST_SHARE
        ]
        return {"writes_per_s": round(changes * 1000 / _WINDOW_MS, 1), "busiest": busiest}


def status_calls(node: str, stores: Mapping[int, Applied]) -> dict[str, ShardCall]:
    """Return what can be asked of a shard about itself, by name.

    Args:
        node: this node's name.
        stores: the rows of this node's shards.
    """

    async def status(shard: Shard, _arguments: Any) -> Any:
        owner, applied = shard.owner, stores[shard.number].applied
        return {
            "node": node,
            "serving": owner.serving,
            "epoch": owner.epoch,
            "barrier": owner.began,
            "last": owner.last,
            "applied": applied,
            "lag": max(0, owner.last - applied),
            "transactions": len(shard.ledger.prepared),
        }

    return {"status": status}
