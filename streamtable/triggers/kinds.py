"""What a worker can run: the kinds of consumer, and what runs one of each.

A kind is a module of `streamtable.triggers.builders`. It says which consumers an app declares,
and builds the runner of one of them. The worker does the rest: it registers the consumer, reports
on it, pauses it, and starts it again when the log was away.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from streamtable.core.consumers import ConsumerDocument, ConsumerKind

if TYPE_CHECKING:
    from streamtable.consumers.dead_letters import DeadLetterReader, DeadLetterWriter
    from streamtable.consumers.triggers.state import StateStore
    from streamtable.streams.fetcher import Fetches
    from streamtable.streams.follower import Source
    from streamtable.tracing import Traces
    from streamtable.triggers.app import App
    from streamtable.triggers.endpoint import Endpoint

__all__ = ["Declaration", "Kind", "Runner", "Tools", "declarations", "kind"]

_MODULES: Final[dict[ConsumerKind, str]] = {
    "trigger": "streamtable.triggers.builders.triggers",
    "view": "streamtable.triggers.builders.views",
    "search": "streamtable.triggers.builders.searches",
}


@dataclass(frozen=True, slots=True)
class Declaration:
    """A consumer as an app declares it.

    Attributes:
        kind: what it is.
        name: unique in its app, across kinds.
        sources: names of the tables whose changes it takes.
        start: where it begins if it is new, as `core.starts` reads it; None for a consumer that
            says itself where it begins: it is registered as generation 0, without a start.
        was: the name that it had before, if it was renamed.
        definition: the rest of the declaration as JSON; kept in the registration, and compared
            with the one before.
        declared: the app's own object, for the kind's `build`.
    """

    kind: ConsumerKind
    name: str
    sources: tuple[str, ...]
    start: str | None = "TRIM_HORIZON"
    was: str | None = None
    definition: Mapping[str, Any] = field(default_factory=dict)
    declared: Any = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a runner may use.

    Attributes:
        app: the app's name.
        worker_id: tells this worker from others.
        region: the region's name.
        shards: number of the log's shards.
        node: the node.
        source: the log, to be followed.
        log: the same, to be read at any place.
        state: keeps what must outlive the worker.
        dead_letters: takes what is given up.
        letters: reads it again.
        now_ms: the node's clock, milliseconds since 1970.
        skip_lost: go on where the log has lost changes that a consumer has not seen.
        elasticsearch: the client of an app with searches, None for others.
        traces: makes spans of what follows from traced changes; None where they are not sent.
    """

    app: str
    worker_id: str
    region: str
    shards: int
    node: "Endpoint"
    source: "Source"
    log: "Fetches"
    state: "StateStore"
    dead_letters: "DeadLetterWriter"
    letters: "DeadLetterReader"
    now_ms: Callable[[], int]
    skip_lost: bool = False
    elasticsearch: Any = None
    traces: "Traces | None" = None


class Runner(Protocol):
    """Runs one consumer in this worker; other workers may run it too, on other shards."""

    async def run(self, document: ConsumerDocument) -> None:
        """Run until cancelled; then finish what is in hand, and commit.

        Called once. Pausing cancels it, and another runner is built when it is resumed.

        Raises:
            LogUnavailable: the log is away; the worker builds another runner.
            NodeUnavailable: the node is away; likewise.
            Exception: what stopped the consumer, for good; other consumers go on.
        """

    def update(self, document: ConsumerDocument) -> None:
        """Take a newer registration: a generation, a request, a count of redrives."""

    def report(self) -> Mapping[str, Any]:
        """Return what the worker reports; it is called up to twenty times a second.

        `generation`; `next`: by shard the offset of the first record not done; `shards`: by
        shard how many records are `in_flight`, `retrying`, `parked`; `state`: "running",
        "building", "waiting"; `error`: what it waits for; `progress`: of a build, {"done",
        "total", "rate", "left_s", "phase"}, or None. `failing`: a list of the changes that
        failed and are tried again, each {"position", "keys", "attempts", "next_ms", "error"}.
        """


class Kind(Protocol):
    """What a module of `streamtable.triggers.builders` has."""

    def declarations(self, app: "App") -> Iterable[Declaration]:
        """Return the app's consumers of this kind."""

    def build(self, declaration: Declaration, tools: Tools) -> Runner:
        """Return what runs one of them.

        Raises:
            StreamtableError: it can't be run, and what to do; the worker stops this consumer.
        """


def kind(name: ConsumerKind) -> Kind:
    """Return what runs the consumers of a kind."""
    return cast("Kind", import_module(_MODULES[name]))


def declarations(app: "App") -> list[Declaration]:
    """Return every consumer of an app; the modules of kinds that it has none of are not loaded."""
    wanted: dict[ConsumerKind, Mapping[str, Any]] = {
        "trigger": app.triggers,
        "view": app.views,
        "search": app.searches,
    }
    return [
        each
        for name, declared in wanted.items()
        if declared
        for each in kind(name).declarations(app)
    ]
