"""The group coordinator: the APIs of consumer groups, over `Group` and `Offsets`."""

import time
from typing import Any, Final

from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.connection import Call
from streamtable.streams.broker.group import COMPLETING, EMPTY, PREPARING, Group, Join, Limits
from streamtable.streams.broker.group_messages import RIGHTS_UNKNOWN
from streamtable.streams.broker.offsets import Offsets
from streamtable.streams.broker.settings import BrokerSettings
from streamtable.streams.broker.topics import Topics

__all__ = ["Groups"]

_ID_REQUIRED_SINCE: Final = 4
_SKIPS_ASSIGNMENT_SINCE: Final = 9
_MANY_MEMBERS_SINCE: Final = 3
_MANY_GROUPS_SINCE: Final = 8
_METADATA_BYTES: Final = 4096
_DEAD: Final = "Dead"

Request = dict[str, Any]
Response = dict[str, Any]


class Groups:
    """All groups of a broker.

    Each method is the handler of one API: it takes the request and the call, and returns the
    response, or None where it answers the call later.
    """

    def __init__(self, settings: BrokerSettings, topics: Topics, offsets: Offsets) -> None:
        self._settings = settings
        self._topics = topics
        self._offsets = offsets
        self._limits = Limits(settings.max_group_size, settings.rebalance_delay_ms)
        self._groups: dict[str, Group] = {}

    def close(self) -> None:
        """Cancel every timer."""
        for group in self._groups.values():
            group.close()

    # Membership

    def join(self, request: Request, call: Call) -> Response | None:
        """Join a group (JoinGroup)."""
        member_id, instance = request["member_id"], request.get("group_instance_id")
        if not request["group_id"]:
            return {"error_code": Code.INVALID_GROUP_ID, "member_id": member_id}
        session_ms = request["session_timeout_ms"]
        if not self._settings.min_session_ms <= session_ms <= self._settings.max_session_ms:
            return {"error_code": Code.INVALID_SESSION_TIMEOUT, "member_id": member_id}
        said = Join(
            session_ms,
            max(request["rebalance_timeout_ms"], 1),
            request["protocol_type"],
            [(one["name"], one["metadata"] or b"") for one in request["protocols"] or ()],
            call.client_id,
            call.host,
            call.version >= _SKIPS_ASSIGNMENT_SINCE,
        )
        group = self._groups.get(request["group_id"])
        if group is None:
            if member_id:
                return {"error_code": Code.UNKNOWN_MEMBER_ID, "member_id": member_id}
            group = self._groups[request["group_id"]] = Group(request["group_id"], self._limits)
        if not member_id and instance is None and call.version >= _ID_REQUIRED_SINCE:
            group.ask_for_id(said, call.answer)
        else:
            group.join(member_id, instance, said, call.answer)
        return None

    def sync(self, request: Request, call: Call) -> Response | None:
        """Take an assignment, as the leader also give them (SyncGroup)."""
        group, refusal = self._member(request)
        if group is None or refusal:
            return {"error_code": refusal}
        if request["generation_id"] != group.generation:
            return {"error_code": Code.ILLEGAL_GENERATION}
        for said, known in (
            ("protocol_type", group.protocol_type),
            ("protocol_name", group.protocol),
        ):
            if request.get(said) not in (None, known):
                return {"error_code": Code.INCONSISTENT_GROUP_PROTOCOL}
        assignments = {
            one["member_id"]: one["assignment"] or b"" for one in request["assignments"] or ()
        }
        group.sync(request["member_id"], assignments, call.answer)
        return None

    def heartbeat(self, request: Request, _: Call) -> Response:
        """Keep a member's session (Heartbeat)."""
        group, refusal = self._member(request)
        if group is None or refusal:
            return {"error_code": refusal}
        if request["generation_id"] != group.generation:
            return {"error_code": Code.ILLEGAL_GENERATION}
        group.keep_alive(group.members[request["member_id"]])
        preparing = group.state == PREPARING
        return {"error_code": Code.REBALANCE_IN_PROGRESS if preparing else Code.NONE}

    def leave(self, request: Request, call: Call) -> Response:
        """Take members out of a group (LeaveGroup)."""
        group = self._groups.get(request["group_id"])
        if call.version < _MANY_MEMBERS_SINCE:
            return {"error_code": self._leave(group, request["member_id"], None)}
        answers = []
        for one in request["members"] or ():
            member_id, instance = one["member_id"], one.get("group_instance_id")
            if group is not None and instance is not None and not member_id:
                known = group.instances.get(instance, "")
                code = self._leave(group, known, instance)
            else:
                code = self._leave(group, member_id, instance)
            answers.append(
                {"member_id": member_id, "group_instance_id": instance, "error_code": code}
            )
        return {"members": answers}

    def _leave(self, group: Group | None, member_id: str, instance: str | None) -> Code:
        if group is None:
            return Code.UNKNOWN_MEMBER_ID
        if member_id in group.pending:
            group.forget_pending(member_id)
            return Code.NONE
        refusal = group.refusal(member_id, instance)
        if not refusal:
            group.remove(group.members[member_id])
        return refusal

    def _member(self, request: Request) -> tuple[Group | None, Code]:
        group = self._groups.get(request["group_id"])
        if group is None:
            return None, Code.UNKNOWN_MEMBER_ID
        return group, group.refusal(request["member_id"], request.get("group_instance_id"))

    # Offsets

    def commit(self, request: Request, _: Call) -> Response:
        """Store offsets of a group (OffsetCommit)."""
        code = self._may_commit(request)
        stored: list[tuple[str, int, int, int, str | None]] = []
        answers = []
        for topic in request["topics"] or ():
            name = topic["name"]
            partitions = []
            for one in topic["partitions"] or ():
                index, metadata = one["partition_index"], one["committed_metadata"]
                outcome = code
                if not code:
                    if self._topics.partition(name, index) is None:
                        outcome = Code.UNKNOWN_TOPIC_OR_PARTITION
                    elif len(metadata or "") > _METADATA_BYTES:
                        outcome = Code.INVALID_REQUEST
                    else:
                        epoch = one.get("committed_leader_epoch", -1)
                        stored.append((name, index, one["committed_offset"], epoch, metadata))
                partitions.append({"partition_index": index, "error_code": outcome})
            answers.append({"name": name, "partitions": partitions})
        if stored:
            try:
                self._offsets.commit(request["group_id"], stored)
            except OSError:
                for answer in answers:
                    for partition in answer["partitions"]:
                        partition["error_code"] = (
                            partition["error_code"] or Code.COORDINATOR_NOT_AVAILABLE
                        )
        return {"topics": answers}

    def _may_commit(self, request: Request) -> Code:
        group = self._groups.get(request["group_id"])
        generation = request["generation_id"]
        if generation < 0 and (group is None or not group.members):
            return Code.NONE  # a consumer that assigns itself
        if group is None:
            return Code.ILLEGAL_GENERATION
        refusal = group.refusal(request["member_id"], request.get("group_instance_id"))
        if refusal:
            return refusal
        if generation != group.generation:
            return Code.ILLEGAL_GENERATION
        if group.state == COMPLETING:
            return Code.REBALANCE_IN_PROGRESS
        group.keep_alive(group.members[request["member_id"]])
        return Code.NONE

    def fetch(self, request: Request, call: Call) -> Response:
        """Tell a group's offsets (OffsetFetch)."""
        if call.version < _MANY_GROUPS_SINCE:
            return {"topics": self._committed(request["group_id"], request["topics"])}
        return {
            "groups": [
                {
                    "group_id": one["group_id"],
                    "topics": self._committed(one["group_id"], one["topics"]),
                }
                for one in request["groups"] or ()
            ]
        }

    def _committed(self, group: str, topics: list[Request] | None) -> list[Response]:
        known = self._offsets.of(group)
        if topics is None:
            names: dict[str, list[int]] = {}
            for name, index in known:
                names.setdefault(name, []).append(index)
            topics = [
                {"name": name, "partition_indexes": indexes} for name, indexes in names.items()
            ]
        answers = []
        for topic in topics:
            partitions = []
            for index in topic["partition_indexes"] or ():
                one = known.get((topic["name"], index))
                partition: Response = {"partition_index": index, "metadata": ""}
                if one is not None:
                    partition["committed_offset"] = one.offset
                    partition["committed_leader_epoch"] = one.leader_epoch
                    partition["metadata"] = one.metadata
                partitions.append(partition)
            answers.append({"name": topic["name"], "partitions": partitions})
        return answers

    def delete_offsets(self, request: Request, _: Call) -> Response:
        """Forget offsets of a group (OffsetDelete); not of topics that a member reads."""
        group_id = request["group_id"]
        group = self._groups.get(group_id)
        if group is None and not self._offsets.of(group_id):
            return {"error_code": Code.GROUP_ID_NOT_FOUND}
        if group is not None and group.members:
            return {"error_code": Code.NON_EMPTY_GROUP}
        partitions = [
            (topic["name"], one["partition_index"])
            for topic in request["topics"] or ()
            for one in topic["partitions"] or ()
        ]
        try:
            self._offsets.delete(group_id, partitions)
        except OSError:
            return {"error_code": Code.COORDINATOR_NOT_AVAILABLE}
        return {
            "topics": [
                {
                    "name": topic["name"],
                    "partitions": [
                        {"partition_index": one["partition_index"]}
                        for one in topic["partitions"] or ()
                    ],
                }
                for topic in request["topics"] or ()
            ]
        }

    # Looking

    def list(self, request: Request, _: Call) -> Response:
        """List the groups (ListGroups)."""
        states = {state.casefold() for state in request.get("states_filter") or ()}
        types = {kind.casefold() for kind in request.get("types_filter") or ()}
        answers = []
        for group_id in dict.fromkeys((*self._groups, *self._offsets)):
            group = self._groups.get(group_id)
            state = EMPTY if group is None else group.state
            if (states and state.casefold() not in states) or (types and "classic" not in types):
                continue
            answers.append(
                {
                    "group_id": group_id,
                    "protocol_type": (group and group.protocol_type) or "",
                    "group_state": state,
                    "group_type": "classic",
                }
            )
        return {"groups": answers}

    def describe(self, request: Request, _: Call) -> Response:
        """Describe groups and their members (DescribeGroups)."""
        return {"groups": [self._described(group_id) for group_id in request["groups"] or ()]}

    def _described(self, group_id: str) -> Response:
        group = self._groups.get(group_id)
        if group is None:
            state = EMPTY if self._offsets.of(group_id) else _DEAD
            return {"group_id": group_id, "group_state": state}
        stable = group.state not in (PREPARING, EMPTY)
        return {
            "group_id": group_id,
            "group_state": group.state,
            "protocol_type": group.protocol_type or "",
            "protocol_data": (group.protocol or "") if stable else "",
            "members": [
                {
                    "member_id": one.id,
                    "group_instance_id": one.instance,
                    "client_id": one.said.client_id,
                    "client_host": f"/{one.said.client_host}",
                    "member_metadata": one.metadata(group.protocol or "") if stable else b"",
                    "member_assignment": one.assignment,
                }
                for one in group.members.values()
            ],
            "authorized_operations": RIGHTS_UNKNOWN,
        }

    # Removing

    def delete(self, request: Request, _: Call) -> Response:
        """Delete groups without members (DeleteGroups)."""
        return {
            "results": [
                {"group_id": group_id, "error_code": self._delete(group_id)}
                for group_id in request["groups_names"] or ()
            ]
        }

    def _delete(self, group_id: str) -> Code:
        group = self._groups.get(group_id)
        if group is None and not self._offsets.of(group_id):
            return Code.GROUP_ID_NOT_FOUND
        if group is not None and group.members:
            return Code.NON_EMPTY_GROUP
        try:
            self._offsets.delete(group_id)
        except OSError:
            return Code.COORDINATOR_NOT_AVAILABLE
        if group is not None:
            group.close()
            del self._groups[group_id]
        return Code.NONE

    def forget_idle(self) -> None:
        """Forget groups that nobody is in: at once without offsets, else when those are old."""
        oldest_ms = time.time() * 1000 - self._settings.offsets_retention_ms
        for group_id in list(dict.fromkeys((*self._groups, *self._offsets))):
            group = self._groups.get(group_id)
            if group is not None and (group.members or group.pending):
                continue
            if self._offsets.last_commit_ms(group_id) < oldest_ms:
                self._delete(group_id)
