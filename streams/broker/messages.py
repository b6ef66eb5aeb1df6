"""The messages that the broker speaks, apart from Produce and Fetch, which have their own codecs.

Each is Kafka's own definition, in the versions named here: (first, last, first flexible one).
Source: https://kafka.apache.org/protocol, one section an API.
"""

from typing import Final

from streamtable.streams.broker.group_messages import GROUP_MESSAGES, RIGHTS_UNKNOWN
from streamtable.streams.broker.wire import (
    BOOLEAN,
    INT8,
    INT16,
    INT32,
    INT64,
    NULLABLE,
    STRING,
    UUID,
    Array,
    Field,
    Message,
)

__all__ = ["MESSAGES"]

_ERROR: Final = Field("error_code", INT16)
_REASON: Final = Field("error_message", NULLABLE)
_THROTTLE: Final = Field("throttle_time_ms", INT32)
_NAME: Final = Field("name", STRING)
_PARTITION: Final = Field("partition_index", INT32)
_TIMEOUT: Final = Field("timeout_ms", INT32)
_EPOCH: Final = -1


def _throttle(since: int) -> Field:
    return Field("throttle_time_ms", INT32, since)


_LIST_OFFSETS = Message(
    "ListOffsets",
    2,
    (1, 7, 6),
    (
        Field("replica_id", INT32),
        Field("isolation_level", INT8, 2),
        Field(
            "topics",
            Array(
                _NAME,
                Field(
                    "partitions",
                    Array(
                        _PARTITION,
                        Field("current_leader_epoch", INT32, 4),
                        Field("timestamp", INT64),
                    ),
                ),
            ),
        ),
    ),
    (
        _throttle(2),
        Field(
            "topics",
            Array(
                _NAME,
                Field(
                    "partitions",
                    Array(
                        _PARTITION,
                        _ERROR,
                        Field("timestamp", INT64, default=-1),
                        Field("offset", INT64, default=-1),
                        Field("leader_epoch", INT32, 4, default=_EPOCH),
                    ),
                ),
            ),
        ),
    ),
)

_METADATA = Message(
    "Metadata",
    3,
    (1, 12, 9),
    (
        Field("topics", Array(Field("topic_id", UUID, 10), _NAME)),
        Field("allow_auto_topic_creation", BOOLEAN, 4),
        Field("include_cluster_authorized_operations", BOOLEAN, 8, 10),
        Field("include_topic_authorized_operations", BOOLEAN, 8),
    ),
    (
        _throttle(3),
        Field(
            "brokers",
            Array(
                Field("node_id", INT32),
                Field("host", STRING),
                Field("port", INT32),
                Field("rack", NULLABLE),
            ),
        ),
        Field("cluster_id", NULLABLE, 2),
        Field("controller_id", INT32),
        Field(
            "topics",
            Array(
                _ERROR,
                Field("name", NULLABLE),
                Field("topic_id", UUID, 10),
                Field("is_internal", BOOLEAN),
                Field(
                    "partitions",
                    Array(
                        _ERROR,
                        _PARTITION,
                        Field("leader_id", INT32),
                        Field("leader_epoch", INT32, 7),
                        Field("replica_nodes", Array(INT32)),
                        Field("isr_nodes", Array(INT32)),
                        Field("offline_replicas", Array(INT32), 5),
                    ),
                ),
                Field("authorized_operations", INT32, 8, default=RIGHTS_UNKNOWN),
            ),
        ),
        Field("authorized_operations", INT32, 8, 10, default=RIGHTS_UNKNOWN),
    ),
)

_COORDINATOR = (Field("node_id", INT32), Field("host", STRING), Field("port", INT32))

_FIND_COORDINATOR = Message(
    "FindCoordinator",
    10,
    (0, 4, 3),
    (
        Field("key", STRING, 0, 3),
        Field("key_type", INT8, 1),
        Field("coordinator_keys", Array(STRING), 4),
    ),
    (
        _throttle(1),
        Field("error_code", INT16, 0, 3),
        Field("error_message", NULLABLE, 1, 3),
        Field("node_id", INT32, 0, 3, default=-1),
        Field("host", STRING, 0, 3),
        Field("port", INT32, 0, 3, default=-1),
        Field(
            "coordinators",
            Array(Field("key", STRING), *_COORDINATOR, _ERROR, _REASON),
            4,
        ),
    ),
)

_API_VERSIONS = Message(
    "ApiVersions",
    18,
    (0, 4, 3),
    (Field("client_software_name", STRING, 3), Field("client_software_version", STRING, 3)),
    (
        _ERROR,
        Field(
            "api_keys",
            Array(
                Field("api_key", INT16), Field("min_version", INT16), Field("max_version", INT16)
            ),
        ),
        _throttle(1),
    ),
)

_CREATE_TOPICS = Message(
    "CreateTopics",
    19,
    (2, 7, 5),
    (
        Field(
            "topics",
            Array(
                _NAME,
                Field("num_partitions", INT32),
                Field("replication_factor", INT16),
                Field("assignments", Array(_PARTITION, Field("broker_ids", Array(INT32)))),
                Field("configs", Array(_NAME, Field("value", NULLABLE))),
            ),
        ),
        _TIMEOUT,
        Field("validate_only", BOOLEAN),
    ),
    (
        _THROTTLE,
        Field(
            "topics",
            Array(
                _NAME,
                Field("topic_id", UUID, 7),
                _ERROR,
                _REASON,
                Field("num_partitions", INT32, 5, default=-1),
                Field("replication_factor", INT16, 5, default=-1),
                Field(
                    "configs",
                    Array(
                        _NAME,
                        Field("value", NULLABLE),
                        Field("read_only", BOOLEAN),
                        Field("config_source", INT8),
                        Field("is_sensitive", BOOLEAN),
                    ),
                    5,
                ),
            ),
        ),
    ),
)

_DELETE_TOPICS = Message(
    "DeleteTopics",
    20,
    (1, 6, 4),
    (
        Field("topics", Array(Field("name", NULLABLE), Field("topic_id", UUID)), 6),
        Field("topic_names", Array(STRING), 0, 5),
        _TIMEOUT,
    ),
    (
        _THROTTLE,
        Field(
            "responses",
            Array(
                Field("name", NULLABLE),
                Field("topic_id", UUID, 6),
                _ERROR,
                Field("error_message", NULLABLE, 5),
            ),
        ),
    ),
)

_DELETE_RECORDS = Message(
    "DeleteRecords",
    21,
    (0, 2, 2),
    (
        Field(
            "topics",
            Array(_NAME, Field("partitions", Array(_PARTITION, Field("offset", INT64)))),
        ),
        _TIMEOUT,
    ),
    (
        _THROTTLE,
        Field(
            "topics",
            Array(
                _NAME,
                Field(
                    "partitions",
                    Array(_PARTITION, Field("low_watermark", INT64, default=-1), _ERROR),
                ),
            ),
        ),
    ),
)

_INIT_PRODUCER_ID = Message(
    "InitProducerId",
    22,
    (0, 4, 2),
    (
        Field("transactional_id", NULLABLE),
        Field("transaction_timeout_ms", INT32),
        Field("producer_id", INT64, 3),
        Field("producer_epoch", INT16, 3),
    ),
    (
        _THROTTLE,
        _ERROR,
        Field("producer_id", INT64, default=-1),
        Field("producer_epoch", INT16, default=-1),
    ),
)

_OFFSET_FOR_LEADER_EPOCH = Message(
    "OffsetForLeaderEpoch",
    23,
    (2, 4, 4),
    (
        Field("replica_id", INT32, 3),
        Field(
            "topics",
            Array(
                Field("topic", STRING),
                Field(
                    "partitions",
                    Array(
                        Field("partition", INT32),
                        Field("current_leader_epoch", INT32),
                        Field("leader_epoch", INT32),
                    ),
                ),
            ),
        ),
    ),
    (
        _THROTTLE,
        Field(
            "topics",
            Array(
                Field("topic", STRING),
                Field(
                    "partitions",
                    Array(
                        _ERROR,
                        Field("partition", INT32),
                        Field("leader_epoch", INT32, default=_EPOCH),
                        Field("end_offset", INT64, default=-1),
                    ),
                ),
            ),
        ),
    ),
)

_RESOURCE = (Field("resource_type", INT8), Field("resource_name", STRING))

_DESCRIBE_CONFIGS = Message(
    "DescribeConfigs",
    32,
    (1, 4, 4),
    (
        Field(
            "resources",
            Array(*_RESOURCE, Field("configuration_keys", Array(STRING, null=True))),
        ),
        Field("include_synonyms", BOOLEAN),
        Field("include_documentation", BOOLEAN, 3),
    ),
    (
        _THROTTLE,
        Field(
            "results",
            Array(
                _ERROR,
                _REASON,
                *_RESOURCE,
                Field(
                    "configs",
                    Array(
                        _NAME,
                        Field("value", NULLABLE),
                        Field("read_only", BOOLEAN),
                        Field("config_source", INT8),
                        Field("is_sensitive", BOOLEAN),
                        Field(
                            "synonyms",
                            Array(_NAME, Field("value", NULLABLE), Field("source", INT8)),
                        ),
                        Field("config_type", INT8, 3),
                        Field("documentation", NULLABLE, 3),
                    ),
                ),
            ),
        ),
    ),
)

_ALTERED = (_THROTTLE, Field("responses", Array(_ERROR, _REASON, *_RESOURCE)))

_ALTER_CONFIGS = Message(
    "AlterConfigs",
    33,
    (0, 2, 2),
    (
        Field(
            "resources",
            Array(*_RESOURCE, Field("configs", Array(_NAME, Field("value", NULLABLE)))),
        ),
        Field("validate_only", BOOLEAN),
    ),
    _ALTERED,
)

_CREATE_PARTITIONS = Message(
    "CreatePartitions",
    37,
    (0, 3, 2),
    (
        Field(
            "topics",
            Array(
                _NAME,
                Field("count", INT32),
                Field("assignments", Array(Field("broker_ids", Array(INT32)), null=True)),
            ),
        ),
        _TIMEOUT,
        Field("validate_only", BOOLEAN),
    ),
    (_THROTTLE, Field("results", Array(_NAME, _ERROR, _REASON))),
)

_INCREMENTAL_ALTER_CONFIGS = Message(
    "IncrementalAlterConfigs",
    44,
    (0, 1, 1),
    (
        Field(
            "resources",
            Array(
                *_RESOURCE,
                Field(
                    "configs",
                    Array(_NAME, Field("config_operation", INT8), Field("value", NULLABLE)),
                ),
            ),
        ),
        Field("validate_only", BOOLEAN),
    ),
    _ALTERED,
)

_DESCRIBE_CLUSTER = Message(
    "DescribeCluster",
    60,
    (0, 1, 0),
    (
        Field("include_cluster_authorized_operations", BOOLEAN),
        Field("endpoint_type", INT8, 1),
    ),
    (
        _THROTTLE,
        _ERROR,
        _REASON,
        Field("endpoint_type", INT8, 1, default=1),
        Field("cluster_id", STRING),
        Field("controller_id", INT32),
        Field(
            "brokers",
            Array(
                Field("broker_id", INT32),
                Field("host", STRING),
                Field("port", INT32),
                Field("rack", NULLABLE),
            ),
        ),
        Field("authorized_operations", INT32, default=RIGHTS_UNKNOWN),
    ),
)

MESSAGES: Final = {
    message.key: message
    for message in (
        *GROUP_MESSAGES,
        _LIST_OFFSETS,
        _METADATA,
        _FIND_COORDINATOR,
        _API_VERSIONS,
        _CREATE_TOPICS,
        _DELETE_TOPICS,
        _DELETE_RECORDS,
        _INIT_PRODUCER_ID,
        _OFFSET_FOR_LEADER_EPOCH,
        _DESCRIBE_CONFIGS,
        _ALTER_CONFIGS,
        _CREATE_PARTITIONS,
        _INCREMENTAL_ALTER_CONFIGS,
        _DESCRIBE_CLUSTER,
    )
}
"""Every API by its number."""
