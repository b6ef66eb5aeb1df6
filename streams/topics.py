"""The topics of a region, and how they are made."""

from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import InvalidConfigurationError, TopicAlreadyExistsError, for_code

from streamtable.core.errors import StreamtableError
from streamtable.streams.admin import open_admin

__all__ = ["MAX_RECORD_BYTES", "Topics", "WrongShards"]

_SHARDS: Final = 4
_CLUSTER_SHARDS: Final = 16
_COPIES: Final = 3
_DAY_MS: Final = 24 * 60 * 60 * 1000
_DEAD_LETTERS_MS: Final = 14 * _DAY_MS
MAX_RECORD_BYTES: Final = 64 * 1024 * 1024


class WrongShards(StreamtableError, ValueError):
    """The region has another number of shards than was asked for."""


class Topics:
    """Names of a region's topics.

    Args:
        region: the region's name, the first part of each topic's name.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self.changelog = f"{region}.changelog"
        self.indexes = f"{region}.indexes"
        self.catalog = f"{region}.catalog"
        self.deadletters = f"{region}.deadletters"
        # No topic: the consumer group whose members are the nodes.
        self.nodes = f"{region}.tables"

    def table(self, name: str) -> str:
        """Return the name of the topic that a table's changes are copied to."""
        return f"{self.region}.table.{name}"

    async def create_copy(self, address: str, name: str, shards: int) -> None:
        """Make the topic that a table's changes are copied to; one that is there stays as it is.

        Args:
            address: the brokers, `host:port,...`.
            name: the table's name.
            shards: how many partitions a new topic has.

        Raises:
            KafkaError: the brokers are away, or refuse the topic.
        """
        async with open_admin(address) as admin:
            replication = min(_COPIES, len((await admin.describe_cluster())["brokers"]))
            await _create(admin, _kept(self.table(name), shards, replication, _DAY_MS))

    async def create(self, address: str, shards: int | None) -> int:
        """Make the topics that are missing, each partition on up to three brokers.

        Args:
            address: the brokers, `host:port,...`.
            shards: partitions of the change log where it is made now; None for 4, and for 16
                where there are brokers for three copies. An existing change log keeps what it has.

        Returns:
            The number of partitions that the change log has: of shards, unless the catalog says
            otherwise.
        """
        async with open_admin(address) as admin:
            replication = min(3, len((await admin.describe_cluster())["brokers"]))
            usual = _CLUSTER_SHARDS if replication == _COPIES else _SHARDS
            for name in (self.changelog, self.indexes):
                topic = _kept(name, shards or usual, replication, _DAY_MS)
                await _create_dated(admin, topic)
            compacted = {
                "cleanup.policy": "compact",
                "min.compaction.lag.ms": "3600000",
                "min.insync.replicas": _in_sync(replication),
            }
            catalog = NewTopic(self.catalog, 1, replication, topic_configs=compacted)
            await _create_dated(admin, catalog)
            [described] = await admin.describe_topics([self.changelog])
            found = len(described["partitions"])
            letters = _kept(self.deadletters, found, replication, _DEAD_LETTERS_MS)
            await _create_dated(admin, letters)
        return int(found)

    async def grow(self, address: str, shards: int) -> None:
        """Give the topics that have a partition for each shard as many; none gets fewer.

        Args:
            address: the brokers, `host:port,...`.
            shards: how many shards there are to be.

        Raises:
            KafkaError: the brokers are away, or refuse it.
        """
        async with open_admin(address) as admin:
            names = [self.changelog, self.indexes, self.deadletters]
            small = {
                described["topic"]: NewPartitions(shards)
                for described in await admin.describe_topics(names)
                if len(described["partitions"]) < shards
            }
            if small:
                await admin.create_partitions(small)

    def check_shards(self, found: int, asked: int | None) -> None:
        """Check that a region has as many shards as were asked for.

        Raises:
            WrongShards: it has another number.
        """
        if asked is not None and found != asked:
            raise WrongShards(
                f"the region {self.region} has {found} shards, not {asked}: start without "
                f"--shards, or with --shards {found}. For more shards: streamtable reshard."
            )


def _in_sync(replication: int) -> str:
    """How many copies must have a record before it is acknowledged: all but one."""
    return str(max(1, replication - 1))


def _kept(name: str, partitions: int, replication: int, time_ms: int) -> NewTopic:
    return NewTopic(
        name,
        partitions,
        replication,
        topic_configs={
            "cleanup.policy": "delete",
            "retention.ms": str(time_ms),
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "min.insync.replicas": _in_sync(replication),
        },
    )


async def _create_dated(admin: AIOKafkaAdminClient, topic: NewTopic) -> None:
    """Make a topic whose records the brokers date.

    How long they are kept, and whether they are taken at all, does not hang on each node's clock
    then. The embedded broker has its machine's clock, and keeps records as they come.
    """
    plain = dict(topic.topic_configs)
    topic.topic_configs["message.timestamp.type"] = "LogAppendTime"
    try:
        await _create(admin, topic)
    except InvalidConfigurationError:
        topic.topic_configs = plain
        await _create(admin, topic)


async def _create(admin: AIOKafkaAdminClient, topic: NewTopic) -> None:
    answer = await admin.create_topics([topic])
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"{name}: {message}")
