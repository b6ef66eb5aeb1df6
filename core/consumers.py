"""The catalog's document of a consumer: a trigger, a view or a search index of an app.

It is written when a worker first runs the consumer, and says where the consumer began, so that
its beginning is decided once. Documents are frozen: a change is a copy
(`model_copy(update=...)`). Times are seconds since 1970.
"""

from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

__all__ = ["KINDS", "ConsumerDocument", "ConsumerKind"]

ConsumerKind: TypeAlias = Literal["trigger", "view", "search"]
KINDS: Final[tuple[ConsumerKind, ...]] = ("trigger", "view", "search")


class ConsumerDocument(BaseModel):
    """A consumer's registration.

    Attributes:
        kind: what it is; aggregates and joins are views.
        app: the app that declares it.
        name: unique in its app, across kinds.
        id: UUID of this registration; one that is removed and made again has another.
        sources: names of the tables whose changes it takes.
        generation: counts the times it was begun anew; each has its own consumer group.
        start: by shard the offset of the first record that is this generation's.
        start_text: how that was asked for, as the app or the user wrote it.
        created: when it was registered first.
        paused: workers stop it and keep its position.
        definition: what the app declares besides, as JSON.
        request: what a user asks of the workers beyond pausing, or None.
        redrives: counts the times dead letters were sent back to it.
        formerly: the names that it had before, the first one first. Its positions stay under
            the first one.
        removed: when it was removed, None while it is there. What is removed is remembered, so
            that a consumer of its name begins in a consumer group of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ConsumerKind
    app: str
    name: str
    id: str
    sources: tuple[str, ...]
    generation: int = 1
    start: dict[int, int]
    start_text: str
    created: float
    paused: bool = False
    definition: dict[str, Any] = {}
    request: dict[str, Any] | None = None
    redrives: int = 0
    formerly: tuple[str, ...] = ()
    removed: float | None = None

    @property
    def key(self) -> str:
        """What users call it: `APP/NAME`."""
        return f"{self.app}/{self.name}"

    @property
    def origin(self) -> str:
        """The name that it had first; positions and state are kept under it."""
        return self.formerly[0] if self.formerly else self.name

    def group(self, region: str) -> str:
        """The consumer group under which this generation's positions are kept."""
        return f"{region}.{self.kind}.{self.app}.{self.origin}.{self.generation}"

    def owner(self, shard: int) -> str:
        """The name under which this generation keeps what it notes about a shard."""
        return f"{self.kind}/{self.app}/{self.origin}/{self.generation}/{shard}"
