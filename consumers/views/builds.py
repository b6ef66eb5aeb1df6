"""What is known about the builds of a view: which there were, and what each was made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from streamtable.consumers.triggers.state import StateStore
from streamtable.consumers.views.specs import ViewSpec
from streamtable.core.consumers import ConsumerDocument

__all__ = ["Build", "Builds", "SourceTable"]


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table that a view follows from.

    Attributes:
        id: its UUID.
        keys: names of its key attributes.
    """

    id: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Build:
    """One generation of a view.

    Attributes:
        generation: its number.
        state: `building`, or `built`: its rows are whole up to `start`, and clients read them,
            now or very soon.
        table_id: id of the table with its rows; empty before there is one.
        sources: by name the tables that it was built from.
        start: by shard the first offset whose changes are not in it yet.
        fingerprint: of what its rows depend on besides the function's code.
        code: the fingerprint of the function's code.
        parts: of a join, the ids of its other tables.
        rows_start: of a join, by shard the offset from which its second stage follows.
        request_id: id of the request that it was made for, None if nobody asked for it.
    """

    generation: int
    state: Literal["building", "built"] = "building"
    table_id: str = ""
    sources: Mapping[str, SourceTable] = field(default_factory=dict)
    start: Mapping[int, int] = field(default_factory=dict)
    fingerprint: str = ""
    code: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    rows_start: Mapping[int, int] = field(default_factory=dict)
    request_id: str | None = None

    @property
    def source_ids(self) -> dict[str, str]:
        """The ids of its sources by name."""
        return {name: source.id for name, source in self.sources.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the build as JSON."""
        return {
            "generation": self.generation,
            "state": self.state,
            "table_id": self.table_id,
            "sources": {
                name: {"id": source.id, "keys": list(source.keys)}
                for name, source in self.sources.items()
            },
            "start": _texts(self.start),
            "fingerprint": self.fingerprint,
            "code": self.code,
            "parts": dict(self.parts),
            "rows_start": _texts(self.rows_start),
            "request_id": self.request_id,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` made."""
        return cls(
            generation=value["generation"],
            state=value["state"],
            table_id=value["table_id"],
            sources={
                name: SourceTable(source["id"], tuple(source["keys"]))
                for name, source in value["sources"].items()
            },
            start=_numbers(value["start"]),
            fingerprint=value["fingerprint"],
            code=value["code"],
            parts=value["parts"],
            rows_start=_numbers(value["rows_start"]),
            request_id=value["request_id"],
        )


class Builds:
    """The builds of one view that are remembered.

    Args:
        state: keeps them.
        spec: the view.
        document: its registration.
    """

    def __init__(self, state: StateStore, spec: ViewSpec, document: ConsumerDocument) -> None:
        self._state = state
        self._owner = f"view/{spec.app}/{document.origin}/builds"

    async def all(self) -> dict[int, Build]:
        """Return them by generation."""
        found = await self._state.load(self._owner)
        builds = [Build.from_json(value) for value in found.values()]
        return {build.generation: build for build in builds}

    async def save(self, build: Build) -> None:
        """Remember a build; durable on return."""
        await self._state.save(self._owner, {str(build.generation): build.to_json()})

    async def forget(self, generation: int) -> None:
        """Forget a build."""
        await self._state.save(self._owner, {str(generation): None})


def _texts(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(shard): offset for shard, offset in offsets.items()}


def _numbers(offsets: Mapping[str, int]) -> dict[int, int]:
    return {int(shard): offset for shard, offset in offsets.items()}
