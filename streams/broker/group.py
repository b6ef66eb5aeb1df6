"""One consumer group: its members, generations and assignments (Kafka's classic protocol).

The states: Empty, PreparingRebalance (members join), CompletingRebalance (the leader assigns),
Stable. Members are kept in memory only: after a restart of the broker they join again, and go on
from their committed offsets. Source: https://kafka.apache.org/protocol, "JoinGroup", "SyncGroup";
KIP-345 (static membership), KIP-394 (member ids before the first join).
"""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from streamtable.streams.broker.codes import Code

__all__ = ["COMPLETING", "EMPTY", "PREPARING", "STABLE", "Group", "Join", "Limits", "Member"]

logger = logging.getLogger(__name__)

EMPTY: Final = "Empty"
PREPARING: Final = "PreparingRebalance"
COMPLETING: Final = "CompletingRebalance"
STABLE: Final = "Stable"

Respond = Callable[[dict[str, Any]], None]


class Join(NamedTuple):
    """What a member says when it joins."""

    session_ms: int
    rebalance_ms: int
    protocol_type: str
    protocols: list[tuple[str, bytes]]
    client_id: str
    client_host: str
    skips_assignment: bool


@dataclass(slots=True, eq=False)
class Member:
    """One member of a group."""

    id: str
    instance: str | None
    said: Join
    assignment: bytes = b""
    joining: Respond | None = None
    syncing: Respond | None = None
    timer: asyncio.TimerHandle | None = None

    def metadata(self, protocol: str) -> bytes:
        """Return what the member told under a protocol."""
        return next((data for name, data in self.said.protocols if name == protocol), b"")

    def answer_join(self, response: dict[str, Any]) -> None:
        """Answer a JoinGroup that waits."""
        respond, self.joining = self.joining, None
        if respond is not None:
            respond(response)

    def answer_sync(self, response: dict[str, Any]) -> None:
        """Answer a SyncGroup that waits."""
        respond, self.syncing = self.syncing, None
        if respond is not None:
            respond(response)


@dataclass(slots=True)
class Limits:
    """What bounds a group."""

    max_size: int
    rebalance_delay_ms: int


@dataclass(slots=True, eq=False)
class Group:
    """A consumer group."""

    id: str
    limits: Limits
    state: str = EMPTY
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    pending: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    delayed: bool = False

    # Who asks

    def refusal(self, member_id: str, instance: str | None) -> Code:
        """Tell why a request in a member's name is refused; NONE if it is not."""
        if instance is not None:
            current = self.instances.get(instance)
            if current is None:
                return Code.UNKNOWN_MEMBER_ID
            if current != member_id:
                return Code.FENCED_INSTANCE_ID
        return Code.NONE if member_id in self.members else Code.UNKNOWN_MEMBER_ID

    def keep_alive(self, member: Member) -> None:
        """Begin a member's session anew."""
        if member.timer is not None:
            member.timer.cancel()
        member.timer = asyncio.get_running_loop().call_later(
            member.said.session_ms / 1000, self._expire, member
        )

    def _expire(self, member: Member) -> None:
        if member.joining is not None:  # it waits for us
            self.keep_alive(member)
            return
        logger.info("member %s of group %s did not answer in its session", member.id, self.id)
        self.remove(member)

    # Joining

    def join(self, member_id: str, instance: str | None, said: Join, respond: Respond) -> None:
        """Let a member join; it is answered when the rebalance that this begins is complete."""
        if not self._fits(said):
            respond({"error_code": Code.INCONSISTENT_GROUP_PROTOCOL, "member_id": member_id})
            return
        if instance is not None and instance in self.instances:
            current = self.members[self.instances[instance]]
            if not member_id:
                self._replace(current, said, respond)
                return
            if member_id != current.id:
                respond({"error_code": Code.FENCED_INSTANCE_ID, "member_id": member_id})
                return
        member = self.members.get(member_id)
        if member is not None:
            self._rejoin(member, said, respond)
            return
        if member_id and member_id not in self.pending:
            respond({"error_code": Code.UNKNOWN_MEMBER_ID, "member_id": member_id})
            return
        if len(self.members) >= self.limits.max_size:
            respond({"error_code": Code.GROUP_MAX_SIZE_REACHED, "member_id": member_id})
            return
        self.forget_pending(member_id)
        member = Member(member_id or self.new_id(said.client_id, instance), instance, said)
        member.joining = respond
        self.members[member.id] = member
        if instance is not None:
            self.instances[instance] = member.id
        if self.leader is None:
            self.leader = member.id
        self.keep_alive(member)
        self._rebalance()

    def ask_for_id(self, said: Join, respond: Respond) -> None:
        """Give a new member its id; it is no member before it joins with that."""
        member_id = self.new_id(said.client_id, None)
        if len(self.members) + len(self.pending) >= self.limits.max_size:
            respond({"error_code": Code.GROUP_MAX_SIZE_REACHED})
            return
        self.pending[member_id] = asyncio.get_running_loop().call_later(
            said.session_ms / 1000, self._pending_expired, member_id
        )
        respond({"error_code": Code.MEMBER_ID_REQUIRED, "member_id": member_id})

    def forget_pending(self, member_id: str) -> None:
        """Forget an id that was given but not joined with."""
        timer = self.pending.pop(member_id, None)
        if timer is not None:
            timer.cancel()

    def _pending_expired(self, member_id: str) -> None:
        self.pending.pop(member_id, None)
        self._complete_if_all_joined()

    @staticmethod
    def new_id(client_id: str, instance: str | None) -> str:
        """Make a member's id, which tells a person whose it is."""
        return f"{instance or client_id}-{uuid.uuid4()}"

    def _fits(self, said: Join) -> bool:
        """Tell whether a member has a protocol that every other member has too."""
        if not said.protocol_type or not said.protocols:
            return False
        if not self.members:
            return True
        if said.protocol_type != next(iter(self.members.values())).said.protocol_type:
            return False
        return bool(self._common() & {name for name, _ in said.protocols})

    def _common(self) -> set[str]:
        return set.intersection(
            *({name for name, _ in member.said.protocols} for member in self.members.values())
        )

    def _select(self) -> str:
        """Choose the protocol that most members prefer of those that all have."""
        common = self._common()
        votes = Counter(
            next(name for name, _ in member.said.protocols if name in common)
            for member in self.members.values()
        )
        return votes.most_common(1)[0][0]

    def _rejoin(self, member: Member, said: Join, respond: Respond) -> None:
        changed = said.protocols != member.said.protocols
        member.said = said
        self.keep_alive(member)
        if (self.state == STABLE and (changed or member.id == self.leader)) or (
            self.state == COMPLETING and changed
        ):
            self._wait_joined(member, respond)
            self._rebalance()
        elif self.state in (STABLE, COMPLETING):
            respond(self._joined(member))  # it lost the answer to its last join
        else:
            self._wait_joined(member, respond)
            self._complete_if_all_joined()

    def _wait_joined(self, member: Member, respond: Respond) -> None:
        member.answer_join({"error_code": Code.REBALANCE_IN_PROGRESS, "member_id": member.id})
        member.joining = respond

    def _replace(self, old: Member, said: Join, respond: Respond) -> None:
        """Let a static member take its own place again under a new id; the old id is fenced."""
        assert old.instance is not None
        new = Member(self.new_id(said.client_id, old.instance), old.instance, said, old.assignment)
        fenced = {"error_code": Code.FENCED_INSTANCE_ID, "member_id": old.id}
        old.answer_join(fenced)
        old.answer_sync(fenced)
        if old.timer is not None:
            old.timer.cancel()
        old_leader = self.leader
        self.members = {
            new.id if member_id == old.id else member_id: new if member is old else member
            for member_id, member in self.members.items()
        }
        self.instances[old.instance] = new.id
        if self.leader == old.id:
            self.leader = new.id
        self.keep_alive(new)
        if self.state == STABLE and self._select() == self.protocol:
            joined = self._joined(new)
            if new.said.skips_assignment:
                joined["skip_assignment"] = new.id == self.leader
            else:  # naming another as the leader keeps the assignment as it is
                joined["leader"], joined["members"] = old_leader, []
            respond(joined)
            return
        new.joining = respond
        if self.state == PREPARING:
            self._complete_if_all_joined()
        else:
            self._rebalance()

    # Rebalancing

    def _rebalance(self) -> None:
        """Begin a rebalance, or go on with one: every member has to join again."""
        if self.state != PREPARING:
            first = self.state == EMPTY
            self.state = PREPARING
            in_progress = {"error_code": Code.REBALANCE_IN_PROGRESS}
            for member in self.members.values():
                member.answer_sync(in_progress)
                if member.joining is None:
                    self.keep_alive(member)
            delay_ms = (
                self.limits.rebalance_delay_ms
                if first
                else max(member.said.rebalance_ms for member in self.members.values())
            )
            self._set_timer(delay_ms, self._join_timeout)
            self.delayed = first and delay_ms > 0
        self._complete_if_all_joined()

    def _complete_if_all_joined(self) -> None:
        if self.state != PREPARING or self.pending or self.delayed:
            return
        if all(member.joining is not None for member in self.members.values()):
            self._complete_join()

    def _join_timeout(self) -> None:
        """Go on without the members that did not join in time; static ones keep their place."""
        self.delayed = False
        for member in [one for one in self.members.values() if one.joining is None]:
            if member.instance is None:
                logger.info("member %s of group %s did not rejoin in time", member.id, self.id)
                self._forget(member)
        if any(member.joining is not None for member in self.members.values()):
            self._complete_join()
        elif self.members:
            self._set_timer(
                max(member.said.rebalance_ms for member in self.members.values()),
                self._join_timeout,
            )
        else:
            self._become_empty()

    def _complete_join(self) -> None:
        self.generation += 1
        self.state = COMPLETING
        self.protocol_type = next(iter(self.members.values())).said.protocol_type
        self.protocol = self._select()
        leader = self.members.get(self.leader or "")
        if leader is None or leader.joining is None:
            self.leader = next(one.id for one in self.members.values() if one.joining is not None)
        longest = max(member.said.rebalance_ms for member in self.members.values())
        self._set_timer(longest, self._sync_timeout)
        for member in list(self.members.values()):
            if member.joining is not None:
                self.keep_alive(member)
                member.answer_join(self._joined(member))

    def _joined(self, member: Member) -> dict[str, Any]:
        """Answer a join that is complete."""
        members = []
        if member.id == self.leader:
            members = [
                {
                    "member_id": one.id,
                    "group_instance_id": one.instance,
                    "metadata": one.metadata(self.protocol or ""),
                }
                for one in self.members.values()
            ]
        return {
            "generation_id": self.generation,
            "protocol_type": self.protocol_type,
            "protocol_name": self.protocol,
            "leader": self.leader,
            "member_id": member.id,
            "members": members,
        }

    def _sync_timeout(self) -> None:
        """Drop the members that did not ask for their assignment, the leader among them perhaps."""
        if self.state == COMPLETING:
            late = [one for one in self.members.values() if one.syncing is None]
            for member in late:
                logger.info("member %s of group %s did not sync in time", member.id, self.id)
                self._forget(member)
            if self.members:
                self._rebalance()
            else:
                self._become_empty()

    def sync(self, member_id: str, assignments: dict[str, bytes], respond: Respond) -> None:
        """Give a member its assignment, once the leader has sent them."""
        member = self.members[member_id]
        if self.state == STABLE:
            self.keep_alive(member)
            respond(self._synced(member))
        elif self.state == COMPLETING:
            self.keep_alive(member)
            member.answer_sync({"error_code": Code.REBALANCE_IN_PROGRESS})
            member.syncing = respond
            if member_id == self.leader:
                self.state = STABLE
                self._cancel_timer()
                for one in self.members.values():
                    one.assignment = assignments.get(one.id, b"")
                for one in list(self.members.values()):
                    if one.syncing is not None:
                        self.keep_alive(one)
                        one.answer_sync(self._synced(one))
        else:
            respond({"error_code": Code.REBALANCE_IN_PROGRESS})

    def _synced(self, member: Member) -> dict[str, Any]:
        return {
            "protocol_type": self.protocol_type,
            "protocol_name": self.protocol,
            "assignment": member.assignment,
        }

    # Leaving

    def remove(self, member: Member) -> None:
        """Take a member out; the others rebalance."""
        self._forget(member)
        if not self.members:
            self._become_empty()
        elif self.state == PREPARING:
            self._complete_if_all_joined()
        else:
            self._rebalance()

    def _forget(self, member: Member) -> None:
        if member.timer is not None:
            member.timer.cancel()
        unknown = {"error_code": Code.UNKNOWN_MEMBER_ID, "member_id": member.id}
        member.answer_join(unknown)
        member.answer_sync(unknown)
        self.members.pop(member.id, None)
        if member.instance is not None and self.instances.get(member.instance) == member.id:
            del self.instances[member.instance]
        if self.leader == member.id:
            self.leader = next(iter(self.members), None)

    def _become_empty(self) -> None:
        if self.state != EMPTY:
            self.generation += 1
        self.state = EMPTY
        self.leader = self.protocol = None
        self._cancel_timer()

    def close(self) -> None:
        """Cancel every timer; nobody is answered."""
        self._cancel_timer()
        for member in self.members.values():
            if member.timer is not None:
                member.timer.cancel()
        for timer in self.pending.values():
            timer.cancel()

    def _set_timer(self, after_ms: int, call: Callable[[], None]) -> None:
        self._cancel_timer()
        self.timer = asyncio.get_running_loop().call_later(after_ms / 1000, call)

    def _cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
