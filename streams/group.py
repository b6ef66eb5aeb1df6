"""A Faust app as streamtable uses it: one consumer group on the change log, nothing else.

Every setting that keeps Faust within what it is good at (membership, assignment, offsets) is
here. It declares no topics, elects no leader, serves no web page and writes no files.
"""

import logging
from typing import Any, Final
from urllib.parse import urlsplit

import aiokafka.conn
import faust
from faust.assignor.partition_assignor import PartitionAssignor

from streamtable.streams.fetching import fetch_steadily
from streamtable.streams.patience import limit_requests
from streamtable.streams.security import KafkaAddress

__all__ = ["READ_BYTES", "SESSION_S", "Group"]

_COMMIT_INTERVAL_S: Final = 0.2
_HEARTBEAT_S: Final = 3.0
_BUFFER_RECORDS: Final = 64
_METADATA_MS: Final = 3_000
# Of each partition. An answer is copied from one end of the client to the other: one of a few
# megabytes drops out of the processor's caches between two copies.
_FETCH_BYTES: Final = 512 * 1024
_DAY_S: Final = 86_400.0

SESSION_S: Final = 10.0
"""How long a member that is not heard of stays in its group, seconds."""

READ_BYTES: Final = 64 * 1024 * 1024
"""How much an answer's connection holds before it stops reading.

aiokafka takes an answer as a whole. With its own limit of 64 KB, connections would stop reading and
go on again for each piece of an answer of megabytes, and hold it all the same in the end.
"""

aiokafka.conn.READER_LIMIT = READ_BYTES


class Group(faust.App):
    """One member of a consumer group.

    It runs inside the current event loop: `finalize()`, `await start()`, `await stop()`.

    Args:
        name: the group's id, shared by its members.
        address: the brokers, `host:port,...`.
        settings: Faust's own, in place of these.
    """

    logger = logging.getLogger("faust.app")

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "store": "memory://",
            "autodiscover": False,
            "web_enabled": False,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            # Stopping commits what is acknowledged, and does not wait for what is not.
            "stream_wait_empty": False,
            "stream_buffer_maxsize": _BUFFER_RECORDS,
            "consumer_auto_offset_reset": "earliest",
            "consumer_max_fetch_size": _FETCH_BYTES,
            # A member that could not ask about its topic while the brokers were away is given no
            # shards, and asks again when what it knows is this old, not sooner.
            "consumer_metadata_max_age_ms": _METADATA_MS,
            "broker_session_timeout": SESSION_S,
            "broker_heartbeat_interval": _HEARTBEAT_S,
            "broker_commit_interval": _COMMIT_INTERVAL_S,
            # A slow handler is not a dead one: its shards stay with it, so that order holds.
            "broker_max_poll_interval": _DAY_S,
        }
        super().__init__(name, **_broker(address), **{**defaults, **settings})

    def finalize(self) -> None:
        """Make the app ready to be started."""
        super().finalize()
        # A full buffer would make Faust pause the shard, and sleep for a second once all are
        # paused. Without the pause it waits for room in the buffer, which is all that is needed.
        self.consumer.on_buffer_full = _ignore  # type: ignore[method-assign, assignment]

    def owners(self, topic: str) -> tuple[dict[int, str], frozenset[str]]:
        """Return who has which partition of a topic, and who all the members are.

        Both by the members' addresses, `host:port` of their canonical URLs. It is what the group
        said with its last assignment.
        """
        assert isinstance(self.assignor, PartitionAssignor)
        told = self.assignor.external_topics_metadata()
        members = {url: urlsplit(url).netloc for url in told}
        owners = {
            partition: members[url]
            for url, topics in told.items()
            for partition in topics.get(topic, ())
        }
        return owners, frozenset(members.values())

    def followed(self, topic: str) -> frozenset[int]:
        """Return the partitions of a topic that this member is to follow as a standby."""
        assert isinstance(self.assignor, PartitionAssignor)
        return frozenset(
            one.partition for one in self.assignor.assigned_standbys() if one.topic == topic
        )

    @property
    def generation(self) -> int:
        """The number of the group's last assignment: each one is the next number.

        Who was left out of one, and let in again, has missed a number.
        """
        number: int = self._coordinator.generation
        return number

    @property
    def _coordinator(self) -> Any:
        # aiokafka's end of the group; there is no public way to it.
        consumer: Any = self.consumer
        return consumer._thread._consumer._coordinator  # noqa: SLF001 - see above

    def leaves_for_good(self) -> None:
        """Have the group give this member's partitions to others as soon as it stops.

        A static member says nothing when it stops, so that it finds them again if it comes back
        within its session.
        """
        self._coordinator._group_instance_id = None  # noqa: SLF001 - it asks itself about that

    def _create_directories(self) -> None:
        """Keep Faust from making its data folder."""


def _broker(address: str) -> dict[str, Any]:
    """Return what Faust is told to connect to an address."""
    limit_requests()
    fetch_steadily()
    options: dict[str, Any] = {"broker": [f"kafka://{host}" for host in address.split(",")]}
    if isinstance(address, KafkaAddress):
        security = address.security
        if security.mechanism is not None:
            options["broker_credentials"] = faust.SASLCredentials(
                mechanism=security.mechanism,
                username=security.username,
                password=security.password,
                ssl_context=security.context,
            )
        elif security.context is not None:
            options["broker_credentials"] = faust.SSLCredentials(security.context)
    return options


def _ignore(_partition: Any) -> None:
    pass
