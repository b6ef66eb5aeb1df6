"""The APIs about topics: made, deleted, grown, configured, cut at the front."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.configs import broker_configs, topic_configs
from streamtable.streams.broker.connection import Call
from streamtable.streams.broker.offsets import Offsets
from streamtable.streams.broker.settings import BrokerSettings
from streamtable.streams.broker.topics import Topic, TopicError, Topics

__all__ = ["NODE_ID", "Admin"]

NODE_ID: Final = 1
"""The number of the only broker."""

_TOPIC: Final = 2
_BROKER: Final = 4
_SET, _DELETE, _APPEND, _SUBTRACT = range(4)
_OWN_SOURCE: Final = 1
_STATIC_SOURCE: Final = 4
_DEFAULT_SOURCE: Final = 5
_DEFAULT: Final = -1
_TO_THE_END: Final = -1

Request = dict[str, Any]
Response = dict[str, Any]


class Admin:
    """The handlers of the APIs that change or describe topics."""

    def __init__(self, settings: BrokerSettings, topics: Topics, offsets: Offsets) -> None:
        self._settings = settings
        self._topics = topics
        self._offsets = offsets

    async def create_topics(self, request: Request, _: Call) -> Response:
        """Create topics (CreateTopics)."""
        answers = []
        for one in request["topics"] or ():
            try:
                answers.append(await self._create(one, validate_only=request["validate_only"]))
            except TopicError as error:
                answers.append(_refused(one["name"], error))
        return {"topics": answers}

    async def _create(self, one: Request, *, validate_only: bool) -> Response:
        name = one["name"]
        configs = {config["name"]: config["value"] for config in one["configs"] or ()}
        partitions = self._partitions(one)
        if validate_only:
            self._topics.check_new(name, partitions, configs)
            topic_id, own_configs = None, {key: value or "" for key, value in configs.items()}
        else:
            topic = await self._topics.create(name, partitions, configs)
            topic_id, own_configs = topic.id, topic.configs
        return {
            "name": name,
            "topic_id": topic_id,
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": [
                {
                    "name": config.name,
                    "value": value,
                    "config_source": _OWN_SOURCE if own else _DEFAULT_SOURCE,
                }
                for config, value, own in topic_configs(self._settings, own_configs)
            ],
        }

    @staticmethod
    def _partitions(one: Request) -> int:
        """Return how many partitions a topic is to have, on this broker alone."""
        count: int = one["num_partitions"]
        assignments = one["assignments"]
        if assignments:
            if count != _DEFAULT or one["replication_factor"] != _DEFAULT:
                raise TopicError(
                    Code.INVALID_REQUEST,
                    "Both numPartitions or replicationFactor and replicasAssignments were set.",
                )
            indexes = sorted(part["partition_index"] for part in assignments)
            replicas = [part["broker_ids"] for part in assignments]
            if indexes != list(range(len(indexes))) or any(ids != [NODE_ID] for ids in replicas):
                raise TopicError(
                    Code.INVALID_REPLICA_ASSIGNMENT,
                    f"Each partition, from 0 on, has one replica, on broker {NODE_ID}.",
                )
            return len(indexes)
        if one["replication_factor"] not in (1, _DEFAULT):
            raise TopicError(
                Code.INVALID_REPLICATION_FACTOR,
                f"Unable to replicate the partition {one['replication_factor']} time(s): "
                "there is 1 broker.",
            )
        return 1 if count == _DEFAULT else count

    async def delete_topics(self, request: Request, call: Call) -> Response:
        """Delete topics by name or id (DeleteTopics)."""
        wanted: Iterable[tuple[str | None, Topic | None, Code]]
        if call.version >= 6:
            wanted = [
                (
                    one["name"],
                    self._topics.get(one["name"])
                    if one["name"] is not None
                    else self._topics.by_id(one["topic_id"]),
                    Code.UNKNOWN_TOPIC_OR_PARTITION if one["name"] else Code.UNKNOWN_TOPIC_ID,
                )
                for one in request["topics"] or ()
            ]
        else:
            wanted = [
                (name, self._topics.get(name), Code.UNKNOWN_TOPIC_OR_PARTITION)
                for name in request["topic_names"] or ()
            ]
        answers: list[Response] = []
        for name, topic, unknown in wanted:
            if topic is None:
                answers.append({"name": name, "error_code": unknown})
                continue
            try:
                await self._topics.delete(topic)
                self._offsets.forget_topic(topic.name)
            except TopicError as error:
                answers.append(_refused(topic.name, error))
            except OSError as error:
                storage = TopicError(Code.KAFKA_STORAGE_ERROR, str(error))
                answers.append(_refused(topic.name, storage))
            else:
                answers.append({"name": topic.name, "topic_id": topic.id})
        return {"responses": answers}

    async def create_partitions(self, request: Request, _: Call) -> Response:
        """Give topics more partitions (CreatePartitions)."""
        answers = []
        for one in request["topics"] or ():
            topic = self._topics.get(one["name"])
            try:
                if topic is None:
                    raise TopicError(  # noqa: TRY301 - answered as any other refusal
                        Code.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic."
                    )
                only = request["validate_only"]
                await self._topics.grow(topic, one["count"], validate_only=only)
            except TopicError as error:
                answers.append(_refused(one["name"], error))
            else:
                answers.append({"name": one["name"]})
        return {"results": answers}

    async def delete_records(self, request: Request, _: Call) -> Response:
        """Let partitions begin later (DeleteRecords)."""
        answers = []
        for one in request["topics"] or ():
            partitions = [
                await self._delete_records(one["name"], part["partition_index"], part["offset"])
                for part in one["partitions"] or ()
            ]
            answers.append({"name": one["name"], "partitions": partitions})
        return {"topics": answers}

    async def _delete_records(self, name: str, index: int, offset: int) -> Response:
        topic, log = self._topics.get(name), self._topics.partition(name, index)
        answer: Response = {"partition_index": index}
        if topic is None or log is None:
            return {**answer, "error_code": Code.UNKNOWN_TOPIC_OR_PARTITION}
        if offset == _TO_THE_END:
            offset = log.high
        if not 0 <= offset <= log.high:
            return {**answer, "error_code": Code.OFFSET_OUT_OF_RANGE}
        try:
            await self._topics.move_start(topic, log, offset)
        except OSError:
            return {**answer, "error_code": Code.KAFKA_STORAGE_ERROR}
        return {**answer, "low_watermark": log.start}

    # Configurations

    def describe_configs(self, request: Request, _: Call) -> Response:
        """Tell the configurations of topics and of the broker (DescribeConfigs)."""
        return {
            "results": [
                {
                    "resource_type": one["resource_type"],
                    "resource_name": one["resource_name"],
                    **self._described(one, synonyms=request["include_synonyms"]),
                }
                for one in request["resources"] or ()
            ]
        }

    def _described(self, one: Request, *, synonyms: bool) -> Response:
        keys = one["configuration_keys"]
        configs: list[Response]
        if one["resource_type"] == _TOPIC:
            topic = self._topics.get(one["resource_name"])
            if topic is None:
                return {
                    "error_code": Code.UNKNOWN_TOPIC_OR_PARTITION,
                    "error_message": "This server does not host this topic.",
                }
            configs = [
                _config(config.name, value, config.type, _OWN_SOURCE if own else _DEFAULT_SOURCE)
                for config, value, own in topic_configs(self._settings, topic.configs)
            ]
        elif one["resource_type"] == _BROKER and one["resource_name"] in ("", str(NODE_ID)):
            configs = [
                {**_config(name, value, kind, _STATIC_SOURCE), "read_only": True}
                for name, value, kind in broker_configs(self._settings)
            ]
        else:
            return {
                "error_code": Code.INVALID_REQUEST,
                "error_message": "only topics and the broker have configurations",
            }
        if not synonyms:
            configs = [{**config, "synonyms": []} for config in configs]
        return {"configs": [one for one in configs if keys is None or one["name"] in keys]}

    async def alter_configs(self, request: Request, _: Call) -> Response:
        """Replace all that topics set (AlterConfigs)."""
        return await self._alter(
            request,
            lambda _, one: {config["name"]: config["value"] for config in one["configs"] or ()},
        )

    async def incremental_alter_configs(self, request: Request, _: Call) -> Response:
        """Change some of what topics set (IncrementalAlterConfigs)."""
        return await self._alter(request, _changed)

    async def _alter(
        self, request: Request, change: Callable[[Topic, Request], dict[str, str | None]]
    ) -> Response:
        answers = []
        for one in request["resources"] or ():
            answer = {
                "resource_type": one["resource_type"],
                "resource_name": one["resource_name"],
            }
            try:
                topic = self._alterable(one)
                await self._topics.configure(
                    topic, change(topic, one), validate_only=request["validate_only"]
                )
            except TopicError as error:
                answer |= {"error_code": error.code, "error_message": str(error)}
            answers.append(answer)
        return {"responses": answers}

    def _alterable(self, one: Request) -> Topic:
        if one["resource_type"] != _TOPIC:
            raise TopicError(Code.INVALID_REQUEST, "only a topic's configuration can be changed")
        topic = self._topics.get(one["resource_name"])
        if topic is None:
            raise TopicError(
                Code.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic."
            )
        return topic


def _changed(topic: Topic, one: Request) -> dict[str, str | None]:
    """Return what a topic sets after incremental changes."""
    configs: dict[str, str | None] = dict(topic.configs)
    for config in one["configs"] or ():
        name, value, operation = config["name"], config["value"], config["config_operation"]
        items = (configs.get(name) or "").split(",") if configs.get(name) else []
        if operation == _SET:
            configs[name] = value
        elif operation == _DELETE:
            configs.pop(name, None)
        elif operation == _APPEND:
            added = [item for item in (value or "").split(",") if item not in items]
            configs[name] = ",".join([*items, *added])
        elif operation == _SUBTRACT:
            removed = set((value or "").split(","))
            configs[name] = ",".join(item for item in items if item not in removed)
        else:
            raise TopicError(Code.INVALID_REQUEST, f"unknown operation {operation} on {name}")
    return configs


def _config(name: str, value: str, kind: int, source: int) -> Response:
    return {
        "name": name,
        "value": value,
        "config_source": source,
        "config_type": kind,
        "synonyms": [{"name": name, "value": value, "source": source}],
    }


def _refused(name: str, error: TopicError) -> Response:
    return {"name": name, "error_code": error.code, "error_message": str(error)}
