"""The messages of consumer groups and their offsets; see `messages`."""

from typing import Final

from streamtable.streams.broker.wire import (
    BOOLEAN,
    BYTES,
    INT16,
    INT32,
    INT64,
    NULLABLE,
    STRING,
    Array,
    Field,
    Message,
)

__all__ = ["GROUP_MESSAGES", "RIGHTS_UNKNOWN"]

RIGHTS_UNKNOWN: Final = -(2**31)
"""Authorized operations that nobody asked for."""

_ERROR: Final = Field("error_code", INT16)
_THROTTLE: Final = Field("throttle_time_ms", INT32)
_GROUP: Final = Field("group_id", STRING)
_GENERATION: Final = Field("generation_id", INT32)
_MEMBER: Final = Field("member_id", STRING)
_NAME: Final = Field("name", STRING)
_PARTITION: Final = Field("partition_index", INT32)
_RIGHTS: Final = Field("authorized_operations", INT32, since=3, default=RIGHTS_UNKNOWN)
_EPOCH: Final = -1


def _throttle(since: int) -> Field:
    return Field("throttle_time_ms", INT32, since)


def _instance(since: int) -> Field:
    return Field("group_instance_id", NULLABLE, since)


_OFFSET_COMMIT = Message(
    "OffsetCommit",
    8,
    (2, 9, 8),
    (
        _GROUP,
        _GENERATION,
        _MEMBER,
        _instance(7),
        Field("retention_time_ms", INT64, 2, 4),
        Field(
            "topics",
            Array(
                _NAME,
                Field(
                    "partitions",
                    Array(
                        _PARTITION,
                        Field("committed_offset", INT64),
                        Field("committed_leader_epoch", INT32, 6),
                        Field("committed_metadata", NULLABLE),
                    ),
                ),
            ),
        ),
    ),
    (
        _throttle(3),
        Field("topics", Array(_NAME, Field("partitions", Array(_PARTITION, _ERROR)))),
    ),
)

_FETCH_TOPICS = Array(_NAME, Field("partition_indexes", Array(INT32)), null=True)
_FETCHED_TOPICS = Array(
    _NAME,
    Field(
        "partitions",
        Array(
            _PARTITION,
            Field("committed_offset", INT64, default=-1),
            Field("committed_leader_epoch", INT32, 5, default=_EPOCH),
            Field("metadata", NULLABLE),
            _ERROR,
        ),
    ),
)

_OFFSET_FETCH = Message(
    "OffsetFetch",
    9,
    (1, 9, 6),
    (
        Field("group_id", STRING, 0, 7),
        Field("topics", _FETCH_TOPICS, 0, 7),
        Field(
            "groups",
            Array(
                _GROUP,
                Field("member_id", NULLABLE, 9),
                Field("member_epoch", INT32, 9),
                Field("topics", _FETCH_TOPICS),
            ),
            8,
        ),
        Field("require_stable", BOOLEAN, 7),
    ),
    (
        _throttle(3),
        Field("topics", _FETCHED_TOPICS, 0, 7),
        Field("error_code", INT16, 2, 7),
        Field("groups", Array(_GROUP, Field("topics", _FETCHED_TOPICS), _ERROR), 8),
    ),
)

_JOIN_GROUP = Message(
    "JoinGroup",
    11,
    (2, 9, 6),
    (
        _GROUP,
        Field("session_timeout_ms", INT32),
        Field("rebalance_timeout_ms", INT32),
        _MEMBER,
        _instance(5),
        Field("protocol_type", STRING),
        Field("protocols", Array(_NAME, Field("metadata", BYTES))),
        Field("reason", NULLABLE, 8),
    ),
    (
        _THROTTLE,
        _ERROR,
        Field("generation_id", INT32, default=-1),
        Field("protocol_type", NULLABLE, 7),
        Field("protocol_name", STRING),
        Field("leader", STRING),
        Field("skip_assignment", BOOLEAN, 9),
        _MEMBER,
        Field("members", Array(_MEMBER, _instance(5), Field("metadata", BYTES))),
    ),
)

_HEARTBEAT = Message(
    "Heartbeat",
    12,
    (0, 4, 4),
    (_GROUP, _GENERATION, _MEMBER, _instance(3)),
    (_throttle(1), _ERROR),
)

_LEAVE_GROUP = Message(
    "LeaveGroup",
    13,
    (0, 5, 4),
    (
        _GROUP,
        Field("member_id", STRING, 0, 2),
        Field("members", Array(_MEMBER, _instance(3), Field("reason", NULLABLE, 5)), 3),
    ),
    (_throttle(1), _ERROR, Field("members", Array(_MEMBER, _instance(3), _ERROR), 3)),
)

_SYNC_GROUP = Message(
    "SyncGroup",
    14,
    (0, 5, 4),
    (
        _GROUP,
        _GENERATION,
        _MEMBER,
        _instance(3),
        Field("protocol_type", NULLABLE, 5),
        Field("protocol_name", NULLABLE, 5),
        Field("assignments", Array(_MEMBER, Field("assignment", BYTES))),
    ),
    (
        _throttle(1),
        _ERROR,
        Field("protocol_type", NULLABLE, 5),
        Field("protocol_name", NULLABLE, 5),
        Field("assignment", BYTES),
    ),
)

_DESCRIBE_GROUPS = Message(
    "DescribeGroups",
    15,
    (0, 5, 5),
    (Field("groups", Array(STRING)), Field("include_authorized_operations", BOOLEAN, 3)),
    (
        _throttle(1),
        Field(
            "groups",
            Array(
                _ERROR,
                _GROUP,
                Field("group_state", STRING),
                Field("protocol_type", STRING),
                Field("protocol_data", STRING),
                Field(
                    "members",
                    Array(
                        _MEMBER,
                        _instance(4),
                        Field("client_id", STRING),
                        Field("client_host", STRING),
                        Field("member_metadata", BYTES),
                        Field("member_assignment", BYTES),
                    ),
                ),
                _RIGHTS,
            ),
        ),
    ),
)

_LIST_GROUPS = Message(
    "ListGroups",
    16,
    (0, 5, 3),
    (Field("states_filter", Array(STRING), 4), Field("types_filter", Array(STRING), 5)),
    (
        _throttle(1),
        _ERROR,
        Field(
            "groups",
            Array(
                _GROUP,
                Field("protocol_type", STRING),
                Field("group_state", STRING, 4),
                Field("group_type", STRING, 5),
            ),
        ),
    ),
)

_DELETE_GROUPS = Message(
    "DeleteGroups",
    42,
    (0, 2, 2),
    (Field("groups_names", Array(STRING)),),
    (_THROTTLE, Field("results", Array(_GROUP, _ERROR))),
)

_OFFSET_DELETE = Message(
    "OffsetDelete",
    47,
    (0, 0, 1),
    (_GROUP, Field("topics", Array(_NAME, Field("partitions", Array(_PARTITION))))),
    (
        _ERROR,
        _THROTTLE,
        Field("topics", Array(_NAME, Field("partitions", Array(_PARTITION, _ERROR)))),
    ),
)

GROUP_MESSAGES: Final = (
    _OFFSET_COMMIT,
    _OFFSET_FETCH,
    _JOIN_GROUP,
    _HEARTBEAT,
    _LEAVE_GROUP,
    _SYNC_GROUP,
    _DESCRIBE_GROUPS,
    _LIST_GROUPS,
    _DELETE_GROUPS,
    _OFFSET_DELETE,
)
