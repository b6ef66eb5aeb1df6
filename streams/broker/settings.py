"""What can be set on the embedded broker."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BrokerSettings"]

_HOUR_MS = 3_600_000
_MIB = 1 << 20


class BrokerSettings(BaseModel):
    """How one embedded broker listens, stores and limits.

    The defaults of a topic's configuration are here too; a topic's own `retention.ms`,
    `retention.bytes`, `segment.ms`, `segment.bytes` and `max.message.bytes` stand above them.

    Attributes:
        data: the folder that holds everything; made if it is not there. One process at a time.
        host: the address to listen on. There is no authentication: keep it on loopback.
        port: the port; 0 takes a free one.
        advertised_host: the host that clients are told; `host` where it is None.
        retention_ms: how long a topic's records are kept; -1 for ever.
        retention_bytes: how much of a partition is kept; -1 for all.
        segment_bytes: the size at which a segment file is closed and the next one begun.
        segment_ms: the age at which it is.
        max_message_bytes: the largest record batch.
        retention_check_ms: how often retention is looked after.
        cache_bytes: how much of each partition's tail is served from memory.
        max_request_bytes: the largest frame; a longer one closes the connection.
        max_connections: a further connection is closed at once.
        max_in_flight: produce requests of one connection that wait for the disk; more wait unread.
        max_fetch_bytes: the most that one Fetch is answered with, whatever it asks for.
        max_partitions: the most partitions of one topic.
        max_topics: the most topics.
        min_session_ms: the shortest session of a group's member.
        max_session_ms: the longest.
        max_group_size: the most members of a group.
        rebalance_delay_ms: how long a group's first rebalance waits for further members.
        offsets_retention_ms: how long the offsets of an empty group are kept.
        disk_threads: threads that wait for the disk.
        kernel_syncs: let Linux sync without a thread, where it can.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    host: str = "127.0.0.1"
    port: int = Field(default=19092, ge=0, le=65535)
    advertised_host: str | None = None
    retention_ms: int = Field(default=24 * _HOUR_MS, ge=-1)
    retention_bytes: int = Field(default=-1, ge=-1)
    segment_bytes: int = Field(default=128 * _MIB, ge=1024)
    segment_ms: int = Field(default=_HOUR_MS, ge=1)
    max_message_bytes: int = Field(default=64 * _MIB, ge=1024)
    retention_check_ms: int = Field(default=60_000, ge=10)
    cache_bytes: int = Field(default=4 * _MIB, ge=0)
    max_request_bytes: int = Field(default=100 * _MIB, ge=1024)
    max_connections: int = Field(default=1024, ge=1)
    max_in_flight: int = Field(default=64, ge=1)
    max_fetch_bytes: int = Field(default=64 * _MIB, ge=1024)
    max_partitions: int = Field(default=1024, ge=1)
    max_topics: int = Field(default=4096, ge=1)
    min_session_ms: int = Field(default=6_000, ge=1)
    max_session_ms: int = Field(default=1_800_000, ge=1)
    max_group_size: int = Field(default=1024, ge=1)
    rebalance_delay_ms: int = Field(default=0, ge=0)
    offsets_retention_ms: int = Field(default=7 * 24 * _HOUR_MS, ge=1)
    disk_threads: int = Field(default=4, ge=1, le=64)
    kernel_syncs: bool = True
