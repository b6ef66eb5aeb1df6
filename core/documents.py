"""The catalog's documents of a table: everything about it that outlives the process.

A document is one JSON value in the catalog's topic. Documents are frozen: a change is a copy
(`model_copy(update=...)`). Times are seconds since 1970. What a document says is made quick to
use by `core.tables.Table`.
"""

from typing import Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict

__all__ = [
    "ACTIVE",
    "CREATING",
    "DELETING",
    "PAY_PER_REQUEST",
    "PROVISIONED",
    "UPDATING",
    "ContributorInsights",
    "DestinationDocument",
    "IndexDocument",
    "KeyElement",
    "Policy",
    "Projection",
    "Restore",
    "Status",
    "StreamDocument",
    "TableDocument",
    "Throughput",
    "TimeToLive",
    "UnitLimits",
    "ViewDocument",
    "ViewType",
]

Status: TypeAlias = Literal["CREATING", "UPDATING", "ACTIVE", "DELETING"]
ViewType: TypeAlias = Literal["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]
CREATING: Final = "CREATING"
UPDATING: Final = "UPDATING"
ACTIVE: Final = "ACTIVE"
DELETING: Final = "DELETING"

PROVISIONED: Final = "PROVISIONED"
PAY_PER_REQUEST: Final = "PAY_PER_REQUEST"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyElement(_Document):
    """One attribute of a key schema."""

    name: str
    kind: Literal["HASH", "RANGE"]


class Projection(_Document):
    """What an index copies from the table besides the keys."""

    kind: Literal["ALL", "KEYS_ONLY", "INCLUDE"]
    attributes: tuple[str, ...] = ()


class Throughput(_Document):
    """Provisioned capacity; both zero when the table is billed per request."""

    read_units: int = 0
    write_units: int = 0
    last_increase: float | None = None
    last_decrease: float | None = None
    decreases_today: int = 0


class UnitLimits(_Document):
    """A pair of read and write units: on-demand maximums (-1 = none) or warm throughput."""

    read_units: int | None = None
    write_units: int | None = None


class IndexDocument(_Document):
    """A secondary index.

    Attributes:
        id: UUID in the row keys of the index; a name used again has another one.
        scope: LOCAL shares the table's partition key and shard, GLOBAL has its own.
        keys: the partition key's attributes first; up to four of each kind for GLOBAL.
        backfilling: the index is being filled from the table's items.
    """

    name: str
    id: str
    scope: Literal["LOCAL", "GLOBAL"]
    keys: tuple[KeyElement, ...]
    projection: Projection
    status: Status = ACTIVE
    backfilling: bool = False
    throughput: Throughput = Throughput()
    on_demand: UnitLimits | None = None
    warm: UnitLimits | None = None
    insights: bool = False


class StreamDocument(_Document):
    """One period in which the table's stream was on. `disabled` is None while it is."""

    label: str
    view_type: ViewType
    enabled: float
    disabled: float | None = None


class TimeToLive(_Document):
    """The attribute whose number says when an item expires."""

    attribute: str
    enabled: bool
    changed: float


class Policy(_Document):
    """A resource policy: its JSON text and the revision that guards a replacement."""

    text: str
    revision: str


class ContributorInsights(_Document):
    """Settings of contributor insights; `index` is None for the table itself."""

    index: str | None
    enabled: bool
    mode: str
    changed: float


class DestinationDocument(_Document):
    """A Kafka topic that gets a copy of the table's changes, under a Kinesis stream's ARN.

    Attributes:
        id: names the copy's consumer group; a destination that is enabled again has another one.
        precision: the unit in which the copy says when a change was made.
        enabled_ms: changes accepted then or later are copied, milliseconds since 1970.
        disabled_ms: changes accepted then or earlier; None while it is on.
        reason: why it could not be enabled.
        former_ids: ids of the tables that the view had before, where it was built anew since.
    """

    id: str
    stream_arn: str
    status: Literal["ENABLING", "ACTIVE", "DISABLING", "DISABLED", "ENABLE_FAILED"]
    precision: Literal["MILLISECOND", "MICROSECOND"]
    enabled_ms: int
    disabled_ms: int | None = None
    reason: str | None = None
    former_ids: tuple[str, ...] = ()


class ViewDocument(_Document):
    """What makes a table a view: its rows come from other tables' changes, by an app's code.

    Attributes:
        app: the app that declares the view.
        name: the view's name, under which clients find its rows.
        kind: "view" maps items to rows, "aggregate" groups them, "join" joins two tables.
        sources: the names of the tables from which the rows come.
        generation: counts how often the view was built; each build fills tables of its own.
        part: which of the view's tables this is. "" has the rows that clients read, "values"
            what an aggregate keeps besides to take back what it added; joins have others.
        values_id: UUID of the "values" table of an aggregate that needs one.
        measures: what an aggregate computes, by attribute: `{"revenue": {"kind": "sum"}}`.
        indexes: the names of the indexes that the app declares; users may add others.
        stream: the view type of the stream that the app declares.
    """

    app: str
    name: str
    kind: Literal["view", "aggregate", "join"]
    sources: tuple[str, ...]
    generation: int
    part: str = ""
    values_id: str | None = None
    measures: dict[str, dict[str, Any]] = {}
    indexes: tuple[str, ...] = ()
    stream: ViewType | None = None

    @property
    def key(self) -> str:
        """What users call it: `APP/NAME`."""
        return f"{self.app}/{self.name}"

    @property
    def built_as(self) -> str:
        """The name of this table while it is built; only rows that clients read get another."""
        built = f"{self.name}~{self.generation}"
        return f"{built}~{self.part}" if self.part else built


class Restore(_Document):
    """Which backup a table was made from.

    Attributes:
        backup: its Amazon resource name.
        source: the Amazon resource name of the table that it was taken of.
        at: when that was asked for.
        in_progress: whether items are missing yet.
    """

    backup: str
    source: str
    at: float
    in_progress: bool


class TableDocument(_Document):
    """A table.

    Attributes:
        id: UUID in the row keys of its items; a table made again under the name has another.
        attributes: types ("S", "N", "B") of the key attributes of table and indexes.
        status_until: when a status that is on its way ends, if `table_delay_ms` is set.
        streams: every period of the stream that may still be read, the newest last.
        encrypted: server-side encryption with a KMS key was asked for.
        destinations: where the changes are copied, one at a time that is on, the newest last.
        view: what makes it a view, which clients only read; None for a table of clients.
        hidden: it is left out of ListTables; whoever knows the name can use it.
        restore: what it was restored from; None for one that was created.
    """

    name: str
    id: str
    region: str
    account: str
    created: float
    status: Status = ACTIVE
    status_until: float | None = None
    attributes: dict[str, Literal["S", "N", "B"]]
    keys: tuple[KeyElement, ...]
    billing: Literal["PROVISIONED", "PAY_PER_REQUEST"] = PROVISIONED
    billing_named: bool = False
    on_demand_since: float | None = None
    throughput: Throughput = Throughput()
    on_demand: UnitLimits | None = None
    warm: UnitLimits | None = None
    indexes: tuple[IndexDocument, ...] = ()
    streams: tuple[StreamDocument, ...] = ()
    table_class: Literal["STANDARD", "STANDARD_INFREQUENT_ACCESS"] | None = None
    table_class_changed: float | None = None
    deletion_protection: bool = False
    encrypted: bool = False
    encryption_key: str | None = None
    time_to_live: TimeToLive | None = None
    tags: dict[str, str] = {}
    policy: Policy | None = None
    stream_policy: Policy | None = None
    insights: tuple[ContributorInsights, ...] = ()
    destinations: tuple[DestinationDocument, ...] = ()
    view: ViewDocument | None = None
    hidden: bool = False
    restore: Restore | None = None

    @property
    def restoring(self) -> bool:
        """Whether it is being filled from a backup."""
        return self.restore is not None and self.restore.in_progress

    @property
    def arn(self) -> str:
        """The table's Amazon resource name."""
        return f"arn:aws:dynamodb:{self.region}:{self.account}:table/{self.name}"

    @property
    def stream(self) -> StreamDocument | None:
        """The stream's period that is on, or None."""
        if self.streams and self.streams[-1].disabled is None:
            return self.streams[-1]
        return None

    @property
    def logged_as(self) -> tuple[str, ...]:
        """The names that its changes have in the log; a view's table has had another one."""
        if self.view is None or self.view.built_as == self.name:
            return (self.name,)
        return self.name, self.view.built_as

    def stream_arn(self, stream: StreamDocument) -> str:
        """The Amazon resource name of one period of the stream."""
        return f"{self.arn}/stream/{stream.label}"

    def index(self, name: str) -> IndexDocument | None:
        """The secondary index of that name, or None."""
        return next((index for index in self.indexes if index.name == name), None)

    def with_destination(self, changed: DestinationDocument) -> Self:
        """Return a copy in which a destination is replaced by the one of the same id."""
        found = (changed if each.id == changed.id else each for each in self.destinations)
        return self.model_copy(update={"destinations": tuple(found)})
