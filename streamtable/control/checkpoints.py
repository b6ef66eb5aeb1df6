"""The node's pages about checkpoints.

| page | |
|---|---|
| `GET /_streamtable/checkpoints` | the checkpoints of each shard, the newest first |
| `POST /_streamtable/checkpoints` `{"action": "take"}` | takes one of each shard of this node |
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from streamtable.consumers.checkpoints.manifests import DamagedCheckpoint, Manifest, Names
from streamtable.consumers.checkpoints.objects import BadObject, Objects, StorageUnavailable
from streamtable.consumers.checkpoints.taker import Checkpointer
from streamtable.core.errors import ServiceUnavailable, ValidationError
from streamtable.streams.layout import Layout
from streamtable.streams.owner import StateUnavailable

__all__ = ["CheckpointPages", "describe", "list_checkpoints"]


class CheckpointPages:
    """The pages.

    Args:
        objects: where checkpoints are kept; None where none are.
        checkpointer: takes them; None where none are taken.
        region: the region's name.
        layout: the region's shards.
    """

    def __init__(
        self,
        objects: Objects | None,
        checkpointer: Checkpointer | None,
        region: str,
        layout: Layout,
    ) -> None:
        self._objects = objects
        self._checkpointer = checkpointer
        self._region = region
        self._layout = layout

    async def list(self, _query: Mapping[str, str]) -> dict[str, Any]:
        """Answer where checkpoints are kept, and which there are.

        Raises:
            ServiceUnavailable: the object storage can't be read.
        """
        if self._objects is None:
            return {"place": None, "region": self._region, "checkpoints": []}
        with _told():
            found = await list_checkpoints(self._objects, self._region, self._layout)
        return {"place": self._objects.place, "region": self._region, "checkpoints": found}

    async def act(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take checkpoints; answer those that were taken.

        Raises:
            ServiceUnavailable: the object storage, or a shard's files, can't be written.
            ValidationError: the action is none, or no checkpoints are taken here.
        """
        if body.get("action") != "take":
            raise ValidationError('the action must be "take"')
        if self._checkpointer is None:
            raise ValidationError("this node takes no checkpoints: it has --checkpoints none")
        with _told():
            return {"checkpoints": [describe(each) for each in await self._checkpointer.take()]}


@contextmanager
def _told() -> Iterator[None]:
    """Have whoever asks hear what is wrong with the storage."""
    try:
        yield
    except (StorageUnavailable, StateUnavailable) as error:
        raise ServiceUnavailable(str(error)) from error


async def list_checkpoints(
    objects: Objects, region: str, shards: Iterable[int]
) -> list[dict[str, Any]]:
    """Describe the checkpoints of shards, each shard's newest first.

    Raises:
        StorageUnavailable: the object storage can't be read.
    """
    described = []
    for number in shards:
        names = Names(region, number)
        for key in names.newest_first(await objects.list(names.manifests)):
            try:
                described.append({"key": key, **describe(await Manifest.read(objects, key))})
            except (DamagedCheckpoint, BadObject) as error:
                described.append({"key": key, "shard": number, "damaged": str(error)})
    return described


def describe(manifest: Manifest) -> dict[str, Any]:
    """Say of a checkpoint what a person asks for."""
    return {
        "shard": manifest.shard,
        "offset": manifest.offset,
        "taken_ms": manifest.taken_ms,
        "size_bytes": manifest.size_bytes,
        "files": len(manifest.files),
        "node": manifest.node,
    }
