"""The bodies that a node's pages take, checked."""

from typing import Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from streamtable.core.consumers import ConsumerKind
from streamtable.core.errors import ValidationError

__all__ = [
    "Change",
    "ConsumerReport",
    "Registration",
    "Report",
    "Settlement",
    "ShardReport",
    "parse_body",
]

BodyT = TypeVar("BodyT", bound=BaseModel)

_NAME = r"^[A-Za-z0-9_.-]{1,255}$"


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Registration(_Body):
    """What a worker says of a consumer before it runs it.

    Attributes:
        start: where it begins if it is new; None: it says later where it does.
        was: the name that it had before.
        names: of every consumer that the app's code declares.
    """

    kind: ConsumerKind
    app: str = Field(pattern=_NAME)
    name: str = Field(pattern=_NAME)
    sources: tuple[str, ...]
    start: str | None = None
    definition: dict[str, Any] = {}
    was: str | None = None
    names: tuple[str, ...] = ()


class Change(_Body):
    """What a user asks of a consumer, or its worker.

    Attributes:
        to: where a reset has it begin.
        resume: whether a reset resumes it.
        request: what is asked of its workers.
        generation: which generation begins.
        start: by shard its first offsets.
        request_id: which request is done with that.
    """

    app: str
    name: str
    action: Literal["pause", "resume", "reset", "remove", "request", "begin"]
    to: str | None = None
    resume: bool = False
    request: dict[str, Any] | None = None
    generation: int | None = None
    start: dict[int, int] | None = None
    request_id: str | None = None


class ShardReport(BaseModel):
    """How much of one shard is in a worker's hands."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    in_flight: int = 0
    retrying: int = 0
    parked: int = 0


class ConsumerReport(BaseModel):
    """Where one consumer stands in one worker; see `triggers.kinds.Runner.report`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    generation: int = 0
    next: dict[int, int] = {}
    shards: dict[int, ShardReport] = {}
    in_flight: int = 0
    parked: int = 0
    state: str = "running"
    error: str | None = None
    progress: dict[str, Any] | None = None
    failing: list[dict[str, Any]] = []


class Report(_Body):
    """What a worker reports."""

    worker: str
    app: str
    consumers: dict[str, ConsumerReport]


class Settlement(_Body):
    """What is to become of dead letters, named one by one or all of one consumer.

    Attributes:
        ids: which ones.
        consumer: `APP/NAME`: all of its open ones.
        all: all there are.
    """

    action: Literal["redrive", "drop"]
    ids: tuple[str, ...] = ()
    consumer: str | None = None
    all: bool = False


def parse_body(model: type[BodyT], body: dict[str, Any]) -> BodyT:
    """Return what a body says.

    Raises:
        ValidationError: it does not say what the page wants to know.
    """
    try:
        return model.model_validate(body)
    except pydantic.ValidationError as error:
        [first, *_] = error.errors()
        where = ".".join(str(part) for part in first["loc"])
        raise ValidationError(f"{where}: {first['msg']}") from None
