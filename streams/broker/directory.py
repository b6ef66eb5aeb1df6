"""The APIs that tell where things are: versions, metadata, offsets by time, coordinators, ids."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from streamtable.streams.broker.admin import NODE_ID
from streamtable.streams.broker.batches import LEADER_EPOCH
from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.connection import Api, Call
from streamtable.streams.broker.log import PartitionLog
from streamtable.streams.broker.producers import ProducerIds, Refused
from streamtable.streams.broker.topics import Topic, Topics

__all__ = ["Directory"]

_LATEST: Final = -1
_EARLIEST: Final = -2
_MAX_TIMESTAMP: Final = -3
_MANY_KEYS_SINCE: Final = 4
_PRODUCE: Final = 0

Request = dict[str, Any]
Response = dict[str, Any]


class Directory:
    """The handlers of the APIs that a client begins with.

    Args:
        topics: the topics.
        producers: the producers' ids.
        address: returns the (host, port) that clients are told.
        apis: what the broker speaks, by number.
    """

    def __init__(
        self,
        topics: Topics,
        producers: ProducerIds,
        address: Callable[[], tuple[str, int]],
        apis: Mapping[int, Api],
    ) -> None:
        self._topics = topics
        self._producers = producers
        self._address = address
        self._apis = apis

    def versions(self, _: Request, __: Call) -> Response:
        """Tell what the broker speaks (ApiVersions).

        Produce is told from version 0 on, as Kafka does it, since librdkafka takes that for a
        sign of compression; the versions before 3 are not spoken.
        """
        return {
            "api_keys": [
                {
                    "api_key": key,
                    "min_version": 0 if key == _PRODUCE else api.first,
                    "max_version": api.last,
                }
                for key, api in sorted(self._apis.items())
            ]
        }

    def metadata(self, request: Request, _: Call) -> Response:
        """Describe the broker and its topics (Metadata)."""
        wanted = request["topics"]
        if wanted is None:
            topics = [_described(topic) for topic in self._topics]
        else:
            topics = [self._topic(one) for one in wanted]
        host, port = self._address()
        return {
            "brokers": [{"node_id": NODE_ID, "host": host, "port": port}],
            "cluster_id": self._topics.cluster_id,
            "controller_id": NODE_ID,
            "topics": topics,
        }

    def _topic(self, one: Request) -> Response:
        topic_id = one.get("topic_id")
        if one["name"] is None:
            topic = None if topic_id is None else self._topics.by_id(topic_id)
            if topic is None:
                return {"error_code": Code.UNKNOWN_TOPIC_ID, "name": None, "topic_id": topic_id}
        else:
            topic = self._topics.get(one["name"])
            if topic is None:
                code = Code.UNKNOWN_TOPIC_OR_PARTITION
                if not self._topics.is_name(one["name"]):
                    code = Code.INVALID_TOPIC
                return {"error_code": code, "name": one["name"]}
        return _described(topic)

    def cluster(self, _: Request, __: Call) -> Response:
        """Describe the broker (DescribeCluster)."""
        host, port = self._address()
        return {
            "cluster_id": self._topics.cluster_id,
            "controller_id": NODE_ID,
            "brokers": [{"broker_id": NODE_ID, "host": host, "port": port}],
        }

    async def list_offsets(self, request: Request, _: Call) -> Response:
        """Find offsets: the first, the next, by time (ListOffsets)."""
        answers = []
        for one in request["topics"] or ():
            partitions = []
            for part in one["partitions"] or ():
                log = self._topics.partition(one["name"], part["partition_index"])
                answer = {"partition_index": part["partition_index"]}
                if log is None:
                    answer["error_code"] = Code.UNKNOWN_TOPIC_OR_PARTITION
                elif part.get("current_leader_epoch", -1) > LEADER_EPOCH:
                    answer["error_code"] = Code.UNKNOWN_LEADER_EPOCH
                else:
                    answer |= await _find(log, part["timestamp"])
                partitions.append(answer)
            answers.append({"name": one["name"], "partitions": partitions})
        return {"topics": answers}

    def leader_epochs(self, request: Request, _: Call) -> Response:
        """Tell where an epoch ends: there is only one (OffsetForLeaderEpoch)."""
        answers = []
        for one in request["topics"] or ():
            partitions = []
            for part in one["partitions"] or ():
                log = self._topics.partition(one["topic"], part["partition"])
                answer = {"partition": part["partition"]}
                if log is None:
                    answer["error_code"] = Code.UNKNOWN_TOPIC_OR_PARTITION
                elif part["leader_epoch"] == LEADER_EPOCH:
                    answer |= {"leader_epoch": LEADER_EPOCH, "end_offset": log.high}
                partitions.append(answer)
            answers.append({"topic": one["topic"], "partitions": partitions})
        return {"topics": answers}

    def coordinator(self, request: Request, call: Call) -> Response:
        """Name this broker, for groups as for transactional ids (FindCoordinator)."""
        host, port = self._address()
        place = {"node_id": NODE_ID, "host": host, "port": port}
        if call.version < _MANY_KEYS_SINCE:
            return place
        return {"coordinators": [{"key": key, **place} for key in request["coordinator_keys"]]}

    async def init_producer_id(self, request: Request, _: Call) -> Response:
        """Give a producer its id and epoch (InitProducerId)."""
        transactional_id = request["transactional_id"]
        if transactional_id == "":
            return {"error_code": Code.INVALID_REQUEST}
        try:
            producer_id, epoch = await self._producers.initialize(
                transactional_id, request.get("producer_id", -1), request.get("producer_epoch", -1)
            )
        except Refused as refused:
            return {"error_code": refused.code}
        except OSError:
            return {"error_code": Code.COORDINATOR_NOT_AVAILABLE}
        return {"producer_id": producer_id, "producer_epoch": epoch}


async def _find(log: PartitionLog, timestamp: int) -> Response:
    """Find one offset of a partition."""
    if timestamp == _LATEST:
        return {"offset": log.high, "leader_epoch": LEADER_EPOCH}
    if timestamp == _EARLIEST:
        return {"offset": log.start, "leader_epoch": LEADER_EPOCH}
    if timestamp == _MAX_TIMESTAMP:
        timestamp = log.max_timestamp
        if timestamp < 0:
            return {}
    if timestamp < 0:
        return {"error_code": Code.INVALID_REQUEST}
    try:
        found = await log.find_time(timestamp)
    except OSError:
        return {"error_code": Code.KAFKA_STORAGE_ERROR}
    if found is None:
        return {}
    return {"offset": found[0], "timestamp": found[1], "leader_epoch": LEADER_EPOCH}


def _described(topic: Topic) -> Response:
    return {
        "name": topic.name,
        "topic_id": topic.id,
        "partitions": [
            {
                "partition_index": index,
                "leader_id": NODE_ID,
                "leader_epoch": LEADER_EPOCH,
                "replica_nodes": [NODE_ID],
                "isr_nodes": [NODE_ID],
            }
            for index in range(len(topic.partitions))
        ],
    }
