"""The indexes behind a search index's alias: made, named, swapped and removed."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from elasticsearch import ApiError, AsyncElasticsearch, NotFoundError

from streamtable.consumers.search.client import error_text, error_type
from streamtable.consumers.search.spec import GC_DELETES, SearchSpec
from streamtable.core.errors import StreamtableError

__all__ = ["Building", "Current", "IndexInTheWay", "SearchIndexes"]

logger = logging.getLogger(__name__)

_META: Final = "streamtable"
# Above anybody's template for all indexes. A longer name is the more special one, and two that
# match the same index never have the same priority, which Elasticsearch would refuse.
_PRIORITY: Final = 1_000_000
_EXISTS: Final = "resource_already_exists_exception"


class IndexInTheWay(StreamtableError):
    """Elasticsearch has something under the name of a search index that is not its own."""


@dataclass(frozen=True, slots=True)
class Current:
    """The index that is being served.

    Attributes:
        name: of the index behind the alias.
        build: id of the request for which it was built, "" if there was none.
        table_id: id of the table from whose rows it was built.
        fingerprint: of the declaration that it was built from.
        tail: by shard the first offset that it may lack, where it was made the current one and
            its builder did not come to its end; None where nothing is lacking.
        stale: it lacks changes that the log no longer has: it must be built anew.
    """

    name: str
    build: str
    table_id: str
    fingerprint: str
    tail: Mapping[int, int] | None = None
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Building:
    """An index that is being filled.

    Attributes:
        name: of the index.
        alias: that it is filled through, so that it is not made again where somebody removes it.
        refresh_interval: what it is to have when it is served; None for Elasticsearch's own.
    """

    name: str
    alias: str
    refresh_interval: str | None


class SearchIndexes:
    """What Elasticsearch has of one search index.

    Its errors are those of the client (`client.CLIENT_ERRORS`), and `IndexInTheWay`.

    Args:
        spec: the search index.
        client: Elasticsearch.
    """

    def __init__(self, spec: SearchSpec, client: AsyncElasticsearch) -> None:
        self._spec = spec
        self._client = client
        self.owners = frozenset({spec.key})
        """Whose indexes are its own: `APP/NAME`, with names that it had before."""

    async def put_templates(self) -> None:
        """Put what keeps indexes from being made by accident, and what they are made from."""
        index = self._spec.index
        # A removal with an external version would make an index of the alias's name.
        await self._client.indices.put_index_template(
            name=f"streamtable-{index}-alias",
            index_patterns=[index, f"{index}-building-*"],
            allow_auto_create=False,
            priority=_PRIORITY + len(index),
        )
        if self._spec.mapping is not None or self._spec.settings:
            await self._client.indices.put_index_template(
                name=f"streamtable-{index}",
                index_patterns=[f"{index}-0*"],
                template={
                    "mappings": dict(self._spec.mapping or {}),
                    "settings": _flat(self._spec.settings),
                },
                allow_auto_create=False,
                priority=_PRIORITY + len(index),
            )

    async def current(self) -> Current | None:
        """Find the index that the alias stands for, None if there is no alias.

        Raises:
            IndexInTheWay: there is an index of the alias's name, the alias stands for several,
                or it belongs to another search index.
        """
        alias = self._spec.index
        try:
            found = (await self._client.indices.get(index=alias)).body
        except NotFoundError:
            return None
        if alias in found:
            raise IndexInTheWay(
                f"Elasticsearch has an index named {alias!r}, where the search index "
                f"{self._spec.key} needs an alias of that name. Remove it, or take another index="
            )
        if len(found) > 1:
            raise IndexInTheWay(
                f"the alias {alias!r} of the search index {self._spec.key} stands for several "
                f"indexes: {', '.join(sorted(found))}. Leave one of them"
            )
        ((name, about),) = found.items()
        meta = about.get("mappings", {}).get("_meta", {}).get(_META)
        if meta is None or meta.get("search") not in self.owners:
            owner = "something else" if meta is None else f"the search index {meta.get('search')}"
            raise IndexInTheWay(
                f"the alias {alias!r} in Elasticsearch belongs to {owner}, not to the search "
                f"index {self._spec.key}: take another index="
            )
        tail = meta.get("tail")
        return Current(
            name,
            meta.get("build", ""),
            meta.get("table", ""),
            meta.get("fingerprint", ""),
            None if tail is None else {int(shard): offset for shard, offset in tail.items()},
            meta.get("stale", False),
        )

    async def extend_mapping(self, current: Current) -> str | None:
        """Add to the current index what the declared mapping has more.

        Returns:
            Why Elasticsearch does not take it: then only a rebuild does that.
        """
        if not self._spec.mapping:
            return None
        declared = {name: value for name, value in self._spec.mapping.items() if name != "_meta"}
        if not declared:
            return None
        try:
            await self._client.indices.put_mapping(index=current.name, **declared)
        except ApiError as error:
            if error.status_code != 400:
                raise
            return error_text(error)
        return None

    async def drop_leftovers(self) -> None:
        """Remove indexes that somebody began to fill and did not finish."""
        await self._drop(f"{self._spec.index}-building-*", "unfinished")

    async def drop_retired(self) -> None:
        """Remove indexes that are not served any more, and that nobody wanted to keep."""
        await self._drop(f"{self._spec.index}-retired-*", "old")

    async def _drop(self, aliases: str, what: str) -> None:
        found = await self._client.indices.get_alias(name=aliases)
        for name in found.body:
            logger.info("%s: removing the %s index %s", self._spec.key, what, name)
            await self._client.indices.delete(index=name, ignore_unavailable=True)

    async def create(self) -> Building:
        """Make a new empty index under the next free number."""
        alias = f"{self._spec.index}-building-{uuid4().hex[:12]}"
        settings = {"index.gc_deletes": GC_DELETES} | _flat(self._spec.settings)
        mapping = dict(self._spec.mapping or {})
        mapping["_meta"] = mapping.get("_meta", {}) | {_META: {"search": self._spec.key}}
        number = await self._next_number()
        while True:
            name = f"{self._spec.index}-{number:06}"
            try:
                await self._client.indices.create(
                    index=name, aliases={alias: {}}, mappings=mapping, settings=settings
                )
            except ApiError as error:
                if error_type(error) != _EXISTS:
                    raise
                number += 1
            else:
                break
        found = await self._client.indices.get_settings(index=name, flat_settings=True)
        refresh = found.body[name]["settings"].get("index.refresh_interval")
        await self._refresh_every(name, "-1")
        return Building(name, alias, refresh)

    async def finish(self, building: Building) -> None:
        """Make all that is in a new index visible to searches, and keep that up."""
        await self._refresh_every(building.name, building.refresh_interval)
        await self._client.indices.refresh(index=building.name)

    async def swap(
        self,
        building: Building,
        before: Current | None,
        after: Current,
        *,
        keep: bool,
    ) -> None:
        """Have the alias stand for a new index, from one moment to the next.

        The old index stays until `drop_retired`: searches that have begun on it go on.

        Args:
            building: the new index.
            before: what the alias stands for; where that has changed meanwhile, this fails.
            after: what is to be noted of the new one.
            keep: leave the old index in place for good.
        """
        await self.note(after)
        alias = self._spec.index
        actions: list[dict[str, Any]] = [
            {"add": {"index": building.name, "alias": alias}},
            {"remove": {"index": building.name, "alias": building.alias, "must_exist": True}},
        ]
        if before is not None:
            old = {"index": before.name, "alias": alias, "must_exist": True}
            actions.append({"remove": old})
            if not keep:
                retired = {"index": before.name, "alias": f"{alias}-retired-{uuid4().hex[:12]}"}
                actions.append({"add": retired})
        await self._client.indices.update_aliases(actions=actions)

    async def note(self, current: Current) -> None:
        """Keep what is to be known of an index, with the index."""
        about: dict[str, Any] = {
            "search": self._spec.key,
            "build": current.build,
            "table": current.table_id,
            "fingerprint": current.fingerprint,
        }
        if current.tail is not None:
            about["tail"] = {str(shard): offset for shard, offset in current.tail.items()}
        if current.stale:
            about["stale"] = True
        declared = dict((self._spec.mapping or {}).get("_meta", {}))
        await self._client.indices.put_mapping(index=current.name, meta=declared | {_META: about})

    async def _next_number(self) -> int:
        found = await self._client.indices.get_alias(
            index=f"{self._spec.index}-*", expand_wildcards="all"
        )
        pattern = re.compile(re.escape(self._spec.index) + r"-(\d{6})")
        numbers = [int(match[1]) for name in found.body if (match := pattern.fullmatch(name))]
        return max(numbers, default=0) + 1

    async def _refresh_every(self, name: str, interval: str | None) -> None:
        await self._client.indices.put_settings(
            index=name, settings={"index.refresh_interval": interval}
        )


def _flat(settings: Mapping[str, Any], prefix: str = "index") -> dict[str, Any]:
    """Return settings under their full names, as Elasticsearch itself keeps them."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inside = prefix == "index" and (name == "index" or name.startswith("index."))
        full = name if inside else f"{prefix}.{name}"
        if isinstance(value, Mapping):
            flat |= _flat(value, full)
        else:
            flat[full] = value
    return flat
