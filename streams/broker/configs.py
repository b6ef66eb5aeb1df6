"""What can be configured on a topic, with Kafka's names, and which of it the broker acts on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamtable.streams.broker.settings import BrokerSettings

__all__ = ["Config", "InvalidConfig", "LogConfig", "broker_configs", "topic_configs", "validate"]

_INT, _LONG, _TEXT, _LIST, _BOOL, _DOUBLE = 3, 5, 2, 7, 1, 6
_LONGEST: Final = 2**63 - 1
_INT_MAX: Final = 2**31 - 1
_POLICIES: Final = frozenset({"delete", "compact"})


class InvalidConfig(ValueError):
    """A topic configuration that Kafka would refuse, or that this broker can't keep."""


@dataclass(frozen=True)
class Config:
    """One configuration of a topic.

    Attributes:
        name: as Kafka names it.
        type: the number of its type in DescribeConfigs.
        default: its value where the topic sets none, from the broker's settings.
        check: raises `InvalidConfig` for a bad value.
    """

    name: str
    type: int
    default: Callable[[BrokerSettings], object]
    check: Callable[[str, str], None]


def _integer(low: int, high: int) -> Callable[[str, str], None]:
    def check(name: str, value: str) -> None:
        try:
            number = int(value)
        except ValueError:
            raise InvalidConfig(f"Invalid value {value} for configuration {name}") from None
        if not low <= number <= high:
            raise InvalidConfig(
                f"Invalid value {value} for configuration {name}: it must be from {low} to {high}"
            )

    return check


def _one_of(*allowed: str) -> Callable[[str, str], None]:
    def check(name: str, value: str) -> None:
        if value not in allowed:
            raise InvalidConfig(
                f"Invalid value {value} for configuration {name}: it must be "
                f"{' or '.join(allowed)} on this broker"
            )

    return check


def _policy(name: str, value: str) -> None:
    if not value or not set(value.split(",")) <= _POLICIES:
        raise InvalidConfig(f"Invalid value {value} for configuration {name}")


def _ratio(name: str, value: str) -> None:
    try:
        valid = 0 <= float(value) <= 1
    except ValueError:
        valid = False
    if not valid:
        raise InvalidConfig(f"Invalid value {value} for configuration {name}")


def _same(value: object) -> Callable[[BrokerSettings], object]:
    return lambda _: value


_TOPIC: Final = {
    config.name: config
    for config in (
        # Acted on.
        Config("retention.ms", _LONG, lambda s: s.retention_ms, _integer(-1, _LONGEST)),
        Config("retention.bytes", _LONG, lambda s: s.retention_bytes, _integer(-1, _LONGEST)),
        Config("segment.bytes", _INT, lambda s: s.segment_bytes, _integer(1024, _INT_MAX)),
        Config("segment.ms", _LONG, lambda s: s.segment_ms, _integer(1, _LONGEST)),
        Config("max.message.bytes", _INT, lambda s: s.max_message_bytes, _integer(0, _INT_MAX)),
        # A compacted topic is kept whole: a reader sees the last record of each key, and more.
        Config("cleanup.policy", _LIST, _same("delete"), _policy),
        # What one broker that syncs each batch and stores it as received does anyway.
        Config("min.insync.replicas", _INT, _same(1), _integer(1, 1)),
        Config("unclean.leader.election.enable", _BOOL, _same("false"), _one_of("false")),
        Config("compression.type", _TEXT, _same("producer"), _one_of("producer")),
        Config("message.timestamp.type", _TEXT, _same("CreateTime"), _one_of("CreateTime")),
        Config("flush.messages", _LONG, _same(1), _integer(1, _LONGEST)),
        Config("flush.ms", _LONG, _same(0), _integer(0, _LONGEST)),
        # About compaction and files, without a meaning here.
        Config("delete.retention.ms", _LONG, _same(86_400_000), _integer(0, _LONGEST)),
        Config("min.cleanable.dirty.ratio", _DOUBLE, _same(0.5), _ratio),
        Config("min.compaction.lag.ms", _LONG, _same(0), _integer(0, _LONGEST)),
        Config("max.compaction.lag.ms", _LONG, _same(_LONGEST), _integer(1, _LONGEST)),
        Config("file.delete.delay.ms", _LONG, _same(0), _integer(0, _LONGEST)),
        Config("index.interval.bytes", _INT, _same(16384), _integer(0, _INT_MAX)),
        Config("segment.index.bytes", _INT, _same(10_485_760), _integer(4, _INT_MAX)),
        Config("segment.jitter.ms", _LONG, _same(0), _integer(0, _LONGEST)),
        Config("preallocate", _BOOL, _same("false"), _one_of("false", "true")),
    )
}


def topic_configs(settings: BrokerSettings, own: dict[str, str]) -> list[tuple[Config, str, bool]]:
    """Return each configuration of a topic with its value and whether the topic sets it."""
    return [
        (config, own.get(name, str(config.default(settings))), name in own)
        for name, config in _TOPIC.items()
    ]


def validate(name: str, value: str | None) -> str:
    """Check one configuration of a topic and return its value.

    Raises:
        InvalidConfig: it has no such name or value.
    """
    config = _TOPIC.get(name)
    if config is None:
        raise InvalidConfig(f"Unknown topic config name: {name}")
    if value is None:
        raise InvalidConfig(f"Null value not supported for topic configs: {name}")
    config.check(name, value)
    return value


def broker_configs(settings: BrokerSettings) -> list[tuple[str, str, int]]:
    """Return (name, value, type) of what the broker tells about itself."""
    return [
        ("min.insync.replicas", "1", _INT),
        ("default.replication.factor", "1", _INT),
        ("unclean.leader.election.enable", "false", _BOOL),
        ("auto.create.topics.enable", "false", _BOOL),
        ("message.max.bytes", str(settings.max_message_bytes), _INT),
        ("socket.request.max.bytes", str(settings.max_request_bytes), _INT),
        ("log.retention.ms", str(settings.retention_ms), _LONG),
        ("log.retention.bytes", str(settings.retention_bytes), _LONG),
        ("log.segment.bytes", str(settings.segment_bytes), _INT),
        ("log.roll.ms", str(settings.segment_ms), _LONG),
        ("group.min.session.timeout.ms", str(settings.min_session_ms), _INT),
        ("group.max.session.timeout.ms", str(settings.max_session_ms), _INT),
        ("offsets.retention.minutes", str(settings.offsets_retention_ms // 60_000), _INT),
    ]


class LogConfig:
    """The numbers of one topic that its partitions' logs act on.

    Changed in place, so that every partition sees a changed configuration at once.
    """

    __slots__ = (
        "cache_bytes",
        "max_message_bytes",
        "retention_bytes",
        "retention_ms",
        "segment_bytes",
        "segment_ms",
    )

    def __init__(self, settings: BrokerSettings, own: dict[str, str]) -> None:
        self.cache_bytes = settings.cache_bytes
        self.apply(settings, own)

    def apply(self, settings: BrokerSettings, own: dict[str, str]) -> None:
        """Take over what a topic sets, and the broker's settings for the rest."""
        self.segment_bytes = int(own.get("segment.bytes", settings.segment_bytes))
        self.segment_ms = int(own.get("segment.ms", settings.segment_ms))
        self.max_message_bytes = int(own.get("max.message.bytes", settings.max_message_bytes))
        kept_whole = "delete" not in own.get("cleanup.policy", "delete").split(",")
        if kept_whole:
            self.retention_ms = self.retention_bytes = -1
            return
        self.retention_ms = int(own.get("retention.ms", settings.retention_ms))
        self.retention_bytes = int(own.get("retention.bytes", settings.retention_bytes))
