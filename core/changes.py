"""A change: one mutation of one item, as the log carries it.

In the log a change is JSON in the shape of a DynamoDB stream record, so that any Kafka tool shows
it readable. `dynamodb` has what the Streams API calls StreamRecord, always with both images.
"""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from streamtable.core.images import Image

__all__ = [
    "INSERT",
    "MODIFY",
    "REMOVE",
    "Change",
    "change_from_json",
    "change_to_json",
    "decode_changes",
    "decode_wanted",
    "encode_changes",
]

INSERT: Final = "INSERT"
MODIFY: Final = "MODIFY"
REMOVE: Final = "REMOVE"

# What stands in a commit's value at the begin, before each change, before the kind of a change,
# and behind the last one.
_CHANGES: Final = b'{"changes":['
_CHANGE: Final = b'{"table":"'
_NEXT: Final = b',{"table":"'
_EVENT: Final = b'"eventName":"'
_TRANSACTIONS: Final = b'],"transactions":['


class Change:
    """One mutation of one item.

    Attributes:
        table: the table's name.
        table_id: the table's id, a UUID; a table made again under the same name has another.
        keys: the key attributes in wire form, the partition key first.
        old: the image before, None for an INSERT.
        new: the image after, None for a REMOVE.
        time: hybrid logical clock of the write (milliseconds << 16 | counter); with `region`
            the version of the item, also where the item is gone.
        region: name of the region that wrote it.
        created_ms: when the owner accepted it, milliseconds since 1970.
        request_id: id of the request that asked for it.
        principal: who asked for it.
        service: the AWS service on whose behalf the item was removed (time to live), or None.
        trace: the step of a trace that it follows from, or None: of the request where it is
            written, of the commit where it is read. It is not in the JSON.
    """

    __slots__ = (
        "_json",
        "created_ms",
        "keys",
        "new",
        "old",
        "principal",
        "region",
        "request_id",
        "service",
        "table",
        "table_id",
        "time",
        "trace",
    )

    def __init__(
        self,
        *,
        table: str,
        table_id: str,
        keys: dict[str, Any],
        old: Image | None,
        new: Image | None,
        time: int,
        region: str,
        created_ms: int,
        request_id: str,
        principal: str,
        service: str | None = None,
        trace: str | None = None,
    ) -> None:
        self.table = table
        self.table_id = table_id
        self.keys = keys
        self.old = old
        self.new = new
        self.time = time
        self.region = region
        self.created_ms = created_ms
        self.request_id = request_id
        self.principal = principal
        self.service = service
        self.trace = trace
        self._json: bytes | None = None

    def kept_json(self) -> orjson.Fragment:
        """The change as the log has it; made once where it comes there twice."""
        if self._json is None:
            self._json = self._encode()
        return orjson.Fragment(self._json)

    def encode(self) -> bytes:
        """Return the change as the log has it, UTF-8 JSON."""
        return self._encode() if self._json is None else self._json

    def _encode(self) -> bytes:
        # Written by hand: to make dicts for the serializer takes twice as long.
        old, new = self.old, self.new
        images = more = b""
        if new is not None:
            images = b',"NewImage":' + new.json
            more = b',"newSize":%d' % new.size_bytes
        if old is not None:
            images += b',"OldImage":' + old.json
            version = orjson.dumps(f"{old.time}@{old.region}")
            more += b',"oldSize":%d,"oldVersion":%b' % (old.size_bytes, version)
        if self.service is not None:
            more += b',"userIdentity":{"Type":"Service","PrincipalId":%b}' % (
                orjson.dumps(self.service)
            )
        return (
            b'{"table":%b,"tableId":%b,"eventName":"%b","version":%b,"requestId":%b,'
            b'"principal":%b,"dynamodb":{"ApproximateCreationDateTime":%d,"Keys":%b%b}%b}'
        ) % (
            orjson.dumps(self.table),
            orjson.dumps(self.table_id),
            self.event_name.encode(),
            orjson.dumps(f"{self.time}@{self.region}"),
            orjson.dumps(self.request_id),
            orjson.dumps(self.principal),
            self.created_ms,
            orjson.dumps(self.keys),
            images,
            more,
        )

    @property
    def event_name(self) -> str:
        """INSERT, MODIFY or REMOVE, by which images there are."""
        if self.old is None:
            return INSERT
        return REMOVE if self.new is None else MODIFY


def encode_changes(changes: bytes | bytearray, entries: list[dict[str, Any]]) -> bytes:
    """Return the value of a commit record, UTF-8 JSON.

    Args:
        changes: what becomes visible with the commit, each as `Change.encode` has it, with commas
            between them; `changes` in the JSON.
        entries: what it notes about transactions, `transactions` in the JSON; left out if empty.
    """
    noted = b',"transactions":' + orjson.dumps(entries) if entries else b""
    return b"".join((_CHANGES, changes, b"]", noted, b"}"))


def decode_changes(value: bytes) -> tuple[list[Change], list[dict[str, Any]]]:
    """Read what `encode_changes` made."""
    record = orjson.loads(value)
    changes = [change_from_json(change) for change in record["changes"]]
    return changes, record.get("transactions", [])


def decode_wanted(value: bytes, table: str, events: Iterable[str]) -> list[tuple[int, Change]]:
    """Read those changes of a commit that are of one table and of these kinds.

    The others are not parsed: a change begins with its table and its kind, and the bytes that it
    begins with stand nowhere else. In a text the quotes are escaped, and what an attribute's name
    is followed by is an object.

    Returns:
        Each with its index in the commit, in order.
    """
    mine = _CHANGE + f'{table}",'.encode()
    kinds = tuple(_EVENT + f'{event}"'.encode() for event in events)
    at = value.find(mine)
    # Most commits have nothing of it, and are looked through once or twice, no more.
    if at < 0 or not any(kind in value for kind in kinds):
        return []
    assert value.startswith(_CHANGES), "a commit's value begins with its changes"
    end = value.find(_TRANSACTIONS)
    if end < 0:
        end = len(value) - 2
    found = []
    index, counted = 0, len(_CHANGES)
    while 0 <= at < end:
        index += value.count(_CHANGE, counted, at)
        counted = at
        event = value.index(_EVENT, at)
        if value.startswith(kinds, event):
            following = value.find(_NEXT, at, end)
            text = value[at : end if following < 0 else following]
            found.append((index, change_from_json(orjson.loads(text))))
        at = value.find(mine, event)
    return found


def change_to_json(change: Change) -> dict[str, Any]:
    """Return a change as the log has it, parsed."""
    found: dict[str, Any] = orjson.loads(change.encode())
    return found


def change_from_json(record: dict[str, Any]) -> Change:
    """Read a change of the log's JSON."""
    stream = record["dynamodb"]
    time, region = _version(record["version"])
    old = new = None
    if "NewImage" in stream:
        new = Image.of_item(stream["NewImage"], record["newSize"], time, region)
    if "OldImage" in stream:
        version = _version(record["oldVersion"])
        old = Image.of_item(stream["OldImage"], record["oldSize"], *version)
    identity = record.get("userIdentity")
    return Change(
        table=record["table"],
        table_id=record["tableId"],
        keys=stream["Keys"],
        old=old,
        new=new,
        time=time,
        region=region,
        created_ms=stream["ApproximateCreationDateTime"],
        request_id=record["requestId"],
        principal=record["principal"],
        service=None if identity is None else identity["PrincipalId"],
    )


def _version(text: str) -> tuple[int, str]:
    time, _, region = text.partition("@")
    return int(time), region
