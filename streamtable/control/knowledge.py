"""What the node knows of a table's consumers on one shard."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from streamtable.control.outcomes import ConsumerOnShard, Place
from streamtable.core.consumers import ConsumerDocument

__all__ = ["Kept", "Knowledge", "Letters", "Positions"]

Letters = Callable[[Mapping[str, str]], Awaitable[dict[str, Any]]]
"""Takes a query, answers with the open dead letters as `letters`."""

_PARKED: Final = "parked/"
_HELD_UP: Final = frozenset({"stopped", "waiting", "no worker"})


class Positions(Protocol):
    """Tells where consumers stand: `control.overview.Overview`."""

    async def describe(self, consumers: Iterable[ConsumerDocument]) -> list[dict[str, Any]]:
        """Return for each consumer its `shards`, each with `next`, and what is `failing`.

        Also the `state` that it is in, and its `error`.
        """


class Kept(Protocol):
    """What consumers keep: a `StateStore`, as far as it is read here."""

    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        """Return all values of an owner by id."""


class Knowledge:
    """Puts together what is known of a table's consumers on a shard.

    Args:
        consumers: returns every consumer that is registered.
        positions: where they stand.
        state: what they keep, the changes that they have parked among it.
        dead_letters: the page of the open dead letters.
    """

    def __init__(
        self,
        *,
        consumers: Callable[[], Iterable[ConsumerDocument]],
        positions: Positions,
        state: Kept,
        dead_letters: Letters,
    ) -> None:
        self._consumers = consumers
        self._positions = positions
        self._state = state
        self._dead_letters = dead_letters

    async def of(self, table: str, shard: int) -> list[ConsumerOnShard]:
        """Return what is known of those that follow the table, by their names.

        Raises:
            LogUnavailable: the brokers do not answer.
        """
        found = sorted(
            (each for each in self._consumers() if table in each.sources),
            key=lambda each: each.key,
        )
        if not found:
            return []
        # Parked changes last: one that is parked now was in a worker's hands before.
        standing = await self._positions.describe(found)
        letters = (await self._dead_letters({}))["letters"]
        return [
            await self._on_shard(document, stands, letters, shard)
            for document, stands in zip(found, standing, strict=True)
        ]

    async def _on_shard(
        self,
        document: ConsumerDocument,
        stands: Mapping[str, Any],
        letters: Iterable[Mapping[str, Any]],
        shard: int,
    ) -> ConsumerOnShard:
        kept = await self._state.load(document.owner(shard))
        failing = _by_place(stands["failing"], shard)
        for place, parked in _by_place(
            (value for name, value in kept.items() if name.startswith(_PARKED)), shard
        ).items():
            failing[place] = {**parked, **failing.get(place, {}), "parked": True}
        own = (
            each
            for each in letters
            if each["app"] == document.app
            and each["consumer"] in {document.name, *document.formerly}
        )
        following = stands["shards"].get(str(shard))
        return ConsumerOnShard(
            document,
            None if following is None else following["next"],
            failing,
            _by_place(own, shard),
            _held_up(stands),
        )


def _held_up(stands: Mapping[str, Any]) -> dict[str, Any]:
    """Return why a consumer goes no further for now, if so."""
    if stands.get("state") not in _HELD_UP:
        return {}
    found = {"state": stands["state"]}
    return found if stands.get("error") is None else {**found, "error": stands["error"]}


def _by_place(entries: Iterable[Mapping[str, Any]], shard: int) -> dict[Place, Mapping[str, Any]]:
    found: dict[Place, Mapping[str, Any]] = {}
    for entry in entries:
        number, offset, index = entry["position"]
        if number == shard:
            found[offset, index] = entry
    return found
