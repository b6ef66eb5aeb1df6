"""Load on a table from many connections at once, with the memory to check every item afterwards.

Each worker writes items of its own, one request after the other, so it knows what each item must
be, and every state that it went through; what all workers share are counters. A request without
an answer leaves two possibilities, and `settle` finds out which one it was.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

__all__ = [
    "INDEXES",
    "AsyncConnection",
    "Item",
    "Key",
    "Load",
    "State",
    "Unanswered",
    "create_table",
    "key_of",
    "state_of",
]

Item: TypeAlias = dict[str, dict[str, Any]]
Key: TypeAlias = tuple[str, str]
State: TypeAlias = Item | None

COUNTERS: Final = 6
_COLLECTIONS: Final = 4
_ITEMS: Final = 12
_AUTHORIZATION: Final = (
    "AWS4-HMAC-SHA256 Credential=local/20260101/local/dynamodb/aws4_request, "
    "SignedHeaders=host, Signature=00"
)
_ANSWER_S: Final = 60

_OPEN: Final = {"Projection": {"ProjectionType": "ALL"}}
INDEXES: Final[dict[str, dict[str, Any]]] = {
    "by-group": {
        "IndexName": "by-group",
        "KeySchema": [
            {"AttributeName": "group", "KeyType": "HASH"},
            {"AttributeName": "rank", "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "ALL"},
    },
    "by-color": {
        "IndexName": "by-color",
        "KeySchema": [{"AttributeName": "color", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    },
    "by-score": {
        "IndexName": "by-score",
        "KeySchema": [
            {"AttributeName": "owner", "KeyType": "HASH"},
            {"AttributeName": "score", "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["color", "op"]},
    },
}
_ATTRIBUTES: Final = {"owner": "S", "n": "S", "group": "S", "rank": "N", "color": "S", "score": "N"}


class Unanswered(Exception):
    """The request had no answer, or one that leaves open whether it was carried out."""


class _Held(Exception):
    """A transaction holds the item; nothing was written."""


class AsyncConnection:
    """One kept-open connection; requests go one after the other."""

    def __init__(self, endpoint: str) -> None:
        self._host = urlsplit(endpoint).netloc
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self, operation: str, body: dict[str, Any], service: str = "DynamoDB_20120810"
    ) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer.

        Raises:
            Unanswered: the connection broke or there was none.
        """
        data = json.dumps(body).encode()
        head = (
            f"POST / HTTP/1.1\r\nHost: {self._host}\r\nX-Amz-Target: {service}.{operation}\r\n"
            f"Content-Type: application/x-amz-json-1.0\r\nAuthorization: {_AUTHORIZATION}\r\n"
            f"X-Amz-Date: 20260101T000000Z\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(_ANSWER_S):
                if self._streams is None:
                    host, _, port = self._host.partition(":")
                    self._streams = await asyncio.open_connection(host, int(port), limit=1 << 20)
                reader, writer = self._streams
                writer.write(head.encode() + data)
                answer = await reader.readuntil(b"\r\n\r\n")
                status = int(answer.split(b" ", 2)[1])
                headers = answer.lower()
                at = headers.index(b"content-length:") + len(b"content-length:")
                length = int(headers[at : headers.index(b"\r\n", at)])
                return status, json.loads(await reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            await self.close()
            raise Unanswered(f"{operation}: {error!r}") from None

    async def ok(self, operation: str, **body: Any) -> dict[str, Any]:
        """Return the body of an answer that has to be a success."""
        service = "DynamoDBStreams_20120810" if operation in _STREAMS else "DynamoDB_20120810"
        status, answer = await self.call(operation, body, service)
        assert status == 200, (operation, body, status, answer)
        return answer

    async def write(self, operation: str, **body: Any) -> tuple[str, dict[str, Any]]:
        """Return "" or the error's name, and the answer.

        Raises:
            Unanswered: there was none, or it was the server's own failure.
        """
        status, answer = await self.call(operation, body)
        if status >= 500:
            raise Unanswered(f"{status} {answer}")
        return answer.get("__type", "").rpartition("#")[2] if status != 200 else "", answer

    async def close(self) -> None:
        """Close the connection; the next request opens another."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with suppress(OSError):
                await streams[1].wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_STREAMS: Final = {"ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"}


async def create_table(connection: AsyncConnection, name: str, *, indexes: bool = True) -> None:
    """Make the table that `Load` writes to: two global indexes, a local one, a stream."""
    named = INDEXES if indexes else {"by-score": INDEXES["by-score"]}
    used = {"owner", "n"} | {
        key["AttributeName"] for index in named.values() for key in index["KeySchema"]
    }
    globals_ = [index for name, index in named.items() if name != "by-score"]
    await connection.ok(
        "CreateTable",
        TableName=name,
        KeySchema=[
            {"AttributeName": "owner", "KeyType": "HASH"},
            {"AttributeName": "n", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": each, "AttributeType": kind}
            for each, kind in _ATTRIBUTES.items()
            if each in used
        ],
        BillingMode="PAY_PER_REQUEST",
        LocalSecondaryIndexes=[named["by-score"]],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        **({"GlobalSecondaryIndexes": globals_} if globals_ else {}),
    )


def key_of(item: Item) -> Key:
    """The primary key of an item, or of the keys of one."""
    return item["owner"]["S"], item["n"]["S"]


def state_of(item: State) -> State:
    """An item in a form that compares: sets in order, numbers as numbers."""
    if item is None:
        return None
    result: Item = {}
    for name, value in item.items():
        [(kind, content)] = value.items()
        if kind == "N":
            content = str(Decimal(content).normalize())
        elif kind in {"SS", "NS", "BS"}:
            content = sorted(content)
        result[name] = {kind: content}
    return result


def _wire(key: Key) -> Item:
    return {"owner": {"S": key[0]}, "n": {"S": key[1]}}


class _Worker:
    """One connection's requests.

    Attributes:
        items: what each of its items is; none that is not there.
        history: every state that each of its items went through, None where it was removed.
        counted: by counter, the values that its answered additions returned.
        additions: additions without an answer.
    """

    def __init__(self, load: "Load", number: int) -> None:
        name = f"w{number}"
        self._load = load
        self._number = number
        self._name = name
        self._keys = [(f"{name}.{n % _COLLECTIONS}", str(n)) for n in range(_ITEMS)]
        self._operations = 0
        self.items: dict[Key, Item] = {}
        self.history: dict[Key, list[State]] = {key: [] for key in self._keys}
        self.counted: dict[Key, list[int]] = {}
        self.additions: dict[Key, int] = {}
        # What a request without an answer may have done, and whether all or nothing.
        self.unsure: dict[Key, State] = {}
        self.atomic = True

    async def run(self) -> None:
        """Send requests until one has no answer, or the load ends."""
        endpoints = self._load.endpoints
        connection = AsyncConnection(endpoints[self._number % len(endpoints)])
        chance = self._load.chance
        table = self._load.table
        kinds = [
            self._put, self._put, self._update, self._update, self._update, self._delete,
            self._condition, self._transact, self._transact, self._execute, self._batch,
            self._nothing, self._read, self._count, self._count,
        ]  # fmt: skip
        try:
            while not self._load.ending:
                self._operations += 1
                try:
                    await chance.choice(kinds)(connection, table, chance)
                except _Held:
                    await asyncio.sleep(0.01)
                self._load.answered += 1
        except Unanswered as unanswered:
            self._load.unanswered.append(str(unanswered))
        finally:
            await connection.close()

    # What an item may look like

    def _new(self, key: Key, chance: random.Random) -> Item:
        item: Item = {
            **_wire(key),
            "op": {"S": f"{self._name}-{self._operations}-{chance.randrange(1000)}"},
            "payload": {"S": "x" * chance.randrange(chance.choice([20, 400, 4000]))},
        }
        if chance.random() < 0.7:
            item["group"] = {"S": f"group {chance.randrange(7)}"}
        if chance.random() < 0.8:
            item["rank"] = {"N": str(chance.randrange(-50, 50))}
        if chance.random() < 0.5:
            item["color"] = {"S": chance.choice(["red", "green", "blue"])}
        if chance.random() < 0.5:
            item["score"] = {"N": str(chance.randrange(1000))}
        return item

    def _became(self, states: dict[Key, State]) -> None:
        for key, state in states.items():
            before = self.items.get(key)
            if state == before:
                continue
            self.history[key].append(state)
            if state is None:
                del self.items[key]
            else:
                self.items[key] = state
        self.unsure = {}

    async def _write(
        self,
        connection: AsyncConnection,
        operation: str,
        states: dict[Key, State],
        *,
        atomic: bool = True,
        **body: Any,
    ) -> tuple[str, dict[str, Any]]:
        self.unsure, self.atomic = states, atomic
        error, answer = await connection.write(operation, **body)
        reasons = [reason["Code"] for reason in answer.get("CancellationReasons", ())]
        if error == "TransactionConflictException" or "TransactionConflict" in reasons:
            # An earlier transaction's items are held until a shard that did not answer does.
            if not atomic:
                raise Unanswered(error)
            self.unsure = {}
            raise _Held
        if answer.get("UnprocessedItems"):
            raise Unanswered("503 for a part of the batch")
        self.unsure = {}
        if not error:
            self._became(states)
        return error, answer

    # What it does

    async def _put(self, connection: AsyncConnection, table: str, chance: random.Random) -> None:
        key = chance.choice(self._keys)
        before, item = self.items.get(key), self._new(key, chance)
        error, answer = await self._write(
            connection, "PutItem", {key: item}, TableName=table, Item=item, ReturnValues="ALL_OLD"
        )
        assert not error, answer
        assert state_of(answer.get("Attributes")) == state_of(before), (key, answer, before)

    async def _update(self, connection: AsyncConnection, table: str, chance: random.Random) -> None:
        key = chance.choice(self._keys)
        before, values = self.items.get(key), self._new(key, chance)
        item = {**(before or _wire(key)), **values}
        removed = [name for name in ("group", "color", "score", "rank") if name not in values]
        for name in removed:
            item.pop(name, None)
        named = [name for name in values if name not in {"owner", "n"}]
        text = "SET " + ", ".join(f"#{name} = :{name}" for name in named)
        if removed:
            text += " REMOVE " + ", ".join(f"#{name}" for name in removed)
        error, answer = await self._write(
            connection, "UpdateItem", {key: item}, TableName=table, Key=_wire(key),
            UpdateExpression=text, ReturnValues="ALL_NEW",
            ExpressionAttributeNames={f"#{name}": name for name in (*named, *removed)},
            ExpressionAttributeValues={f":{name}": values[name] for name in named},
        )  # fmt: skip
        assert not error, answer
        assert state_of(answer["Attributes"]) == state_of(item), (key, answer, item)

    async def _delete(self, connection: AsyncConnection, table: str, chance: random.Random) -> None:
        key = chance.choice(self._keys)
        before = self.items.get(key)
        error, answer = await self._write(
            connection, "DeleteItem", {key: None}, TableName=table, Key=_wire(key),
            ReturnValues="ALL_OLD",
        )  # fmt: skip
        assert not error, answer
        assert state_of(answer.get("Attributes")) == state_of(before), (key, answer, before)

    async def _condition(
        self, connection: AsyncConnection, table: str, chance: random.Random
    ) -> None:
        """A put that must find exactly what was written last, or must fail."""
        key = chance.choice(self._keys)
        before, item = self.items.get(key), self._new(key, chance)
        expected = before["op"]["S"] if before else "nothing"
        wrong = chance.random() < 0.3
        error, answer = await self._write(
            connection, "PutItem", {} if wrong or not before else {key: item}, TableName=table,
            Item=item, ConditionExpression="op = :op",
            ExpressionAttributeValues={":op": {"S": expected + ("?" if wrong else "")}},
        )  # fmt: skip
        failed = "ConditionalCheckFailedException" if wrong or not before else ""
        assert error == failed, (key, answer, before)

    async def _nothing(
        self, connection: AsyncConnection, table: str, chance: random.Random
    ) -> None:
        """A put of what is there already."""
        key = chance.choice(self._keys)
        before = self.items.get(key)
        if before is not None:
            await self._write(connection, "PutItem", {key: before}, TableName=table, Item=before)

    async def _read(self, connection: AsyncConnection, table: str, chance: random.Random) -> None:
        key = chance.choice(self._keys)
        error, answer = await connection.write(
            "GetItem", TableName=table, Key=_wire(key), ConsistentRead=True
        )
        assert not error, answer
        expected = state_of(self.items.get(key))
        assert state_of(answer.get("Item")) == expected, (key, answer, expected)

    async def _batch(self, connection: AsyncConnection, table: str, chance: random.Random) -> None:
        states: dict[Key, State] = {}
        requests = []
        for key in chance.sample(self._keys, 3):
            if chance.random() < 0.3:
                states[key] = None
                requests.append({"DeleteRequest": {"Key": _wire(key)}})
            else:
                states[key] = item = self._new(key, chance)
                requests.append({"PutRequest": {"Item": item}})
        error, answer = await self._write(
            connection, "BatchWriteItem", states, atomic=False, RequestItems={table: requests}
        )
        assert not error, answer

    async def _transact(
        self, connection: AsyncConnection, table: str, chance: random.Random
    ) -> None:
        """Several items at once, in TransactWriteItems; some with a check that fails."""
        states: dict[Key, State] = {}
        actions: list[dict[str, Any]] = []
        fails = chance.random() < 0.15
        for key in chance.sample(self._keys, chance.randint(2, 4)):
            before, item = self.items.get(key), self._new(key, chance)
            kind = chance.choice(["Put", "Update", "Delete"])
            if kind == "Put":
                states[key] = item
                actions.append({"Put": {"TableName": table, "Item": item}})
            elif kind == "Delete":
                states[key] = None
                actions.append({"Delete": {"TableName": table, "Key": _wire(key)}})
            else:
                states[key] = {**(before or _wire(key)), "op": item["op"]}
                actions.append({"Update": {
                    "TableName": table, "Key": _wire(key), "UpdateExpression": "SET op = :op",
                    "ExpressionAttributeValues": {":op": item["op"]},
                }})  # fmt: skip
        if fails:
            key = next(key for key in self._keys if key not in states)
            function = "attribute_not_exists" if key in self.items else "attribute_exists"
            check = {"Key": _wire(key), "ConditionExpression": f"{function}(op)"}
            actions.append({"ConditionCheck": {"TableName": table, **check}})
        chance.shuffle(actions)
        error, answer = await self._write(
            connection, "TransactWriteItems", {} if fails else states, TransactItems=actions,
            ClientRequestToken=f"{self._name}-{self._operations}",
        )  # fmt: skip
        assert error == ("TransactionCanceledException" if fails else ""), answer

    async def _execute(
        self, connection: AsyncConnection, table: str, chance: random.Random
    ) -> None:
        """Several items at once, in ExecuteTransaction; some with a statement that fails."""
        states: dict[Key, State] = {}
        statements: list[dict[str, Any]] = []
        fails = chance.random() < 0.15
        where = 'WHERE "owner" = ? AND "n" = ?'
        for key in chance.sample(self._keys, chance.randint(2, 4)):
            before, item = self.items.get(key), self._new(key, chance)
            keys = list(_wire(key).values())
            if before is None:
                states[key] = item
                text = ", ".join(f"'{name}': ?" for name in item)
                statements.append({
                    "Statement": f'INSERT INTO "{table}" VALUE {{{text}}}',
                    "Parameters": list(item.values()),
                })  # fmt: skip
            elif chance.random() < 0.3:
                states[key] = None
                statements.append({
                    "Statement": f'DELETE FROM "{table}" {where}', "Parameters": keys
                })  # fmt: skip
            else:
                states[key] = {**before, "op": item["op"]}
                statements.append({
                    "Statement": f'UPDATE "{table}" SET "op" = ? {where}',
                    "Parameters": [item["op"], *keys],
                })  # fmt: skip
        if fails:
            key = next(key for key in self._keys if key not in states)
            keys = list(_wire(key).values())
            statements.append({
                "Statement": f'UPDATE "{table}" SET "op" = ? {where} AND "op" = ?',
                "Parameters": [{"S": "never"}, *keys, {"S": "what no item has"}],
            })  # fmt: skip
        chance.shuffle(statements)
        error, answer = await self._write(
            connection, "ExecuteTransaction", {} if fails else states,
            TransactStatements=statements,
            ClientRequestToken=f"{self._name}-{self._operations}",
        )  # fmt: skip
        assert error == ("TransactionCanceledException" if fails else ""), answer

    async def _count(self, connection: AsyncConnection, table: str, chance: random.Random) -> None:
        key = (f"counter {chance.randrange(COUNTERS)}", "0")
        self.additions[key] = self.additions.get(key, 0) + 1
        error, answer = await connection.write(
            "UpdateItem", TableName=table, Key=_wire(key), UpdateExpression="ADD added :one",
            ExpressionAttributeValues={":one": {"N": "1"}}, ReturnValues="UPDATED_NEW",
        )  # fmt: skip
        assert not error, answer
        self.additions[key] -= 1
        self.counted.setdefault(key, []).append(int(answer["Attributes"]["added"]["N"]))

    def settle(self, stored: dict[Key, Item]) -> None:
        """Find out what became of the request without an answer."""
        changed = {key: state for key, state in self.unsure.items() if state != self.items.get(key)}
        happened = {
            key: state
            for key, state in changed.items()
            if state_of(stored.get(key)) == state_of(state)
        }
        if self.atomic:
            assert not happened or happened.keys() == changed.keys(), (
                f"{self._name}: a part of a write is there: {happened.keys()} of {changed.keys()}"
            )
        self._became(happened)
        for key in self._keys:
            expected = state_of(self.items.get(key))
            assert state_of(stored.get(key)) == expected, (
                f"{key} is {stored.get(key)}, must be {self.items.get(key)}; unsure were {changed}"
            )


class Load:
    """What many connections do to one table at a time.

    Args:
        table: its name.
        workers: how many connections.
        chance: decides what they do.

    Attributes:
        endpoints: where they send it, each worker to one of them; set before each round.
        answered: requests that were answered, over all rounds.
        unanswered: why the others were not.
        ending: makes the workers end after the answer that they wait for.
    """

    def __init__(self, table: str, workers: int, chance: random.Random) -> None:
        self.table = table
        self.chance = chance
        self.endpoints: Sequence[str] = ()
        self.answered = 0
        self.unanswered: list[str] = []
        self.ending = False
        self.workers = [_Worker(self, number) for number in range(workers)]

    async def run(
        self,
        endpoint: str | Sequence[str],
        target: int,
        then: Callable[[], Awaitable[None] | None],
    ) -> None:
        """Load the server; when `target` more requests are answered, call `then`, and end.

        Raises:
            AssertionError: an answer was wrong.
        """
        self.endpoints = [endpoint] if isinstance(endpoint, str) else endpoint
        self.ending = False
        until = self.answered + target
        tasks = [asyncio.create_task(worker.run()) for worker in self.workers]
        while self.answered < until and not all(  # noqa: ASYNC110 - workers tell nobody
            task.done() for task in tasks
        ):
            await asyncio.sleep(0.01)
        waited = then()
        if waited is not None:
            await waited
        self.ending = True
        for failed in await asyncio.gather(*tasks, return_exceptions=True):
            if failed is not None:
                raise failed
        assert self.answered >= until, f"no more answers: {self.unanswered[-3:]}"

    def settle(self, stored: dict[Key, Item]) -> dict[Key, list[State]]:
        """Check every item against what was answered; return the states each went through.

        Args:
            stored: every item of the table.
        """
        history: dict[Key, list[State]] = {}
        for worker in self.workers:
            worker.settle(stored)
            history |= worker.history
        for number in range(COUNTERS):
            key = (f"counter {number}", "0")
            total = int(stored[key]["added"]["N"]) if key in stored else 0
            values = [value for worker in self.workers for value in worker.counted.get(key, [])]
            open_ = sum(worker.additions.get(key, 0) for worker in self.workers)
            assert len(set(values)) == len(values), f"{key}: two additions returned one value"
            assert max(values, default=0) <= total, f"{key}: an answered addition is lost"
            assert len(values) <= total <= len(values) + open_, (key, total, len(values), open_)
            history[key] = [{**_wire(key), "added": {"N": str(n)}} for n in range(1, total + 1)]
        return history
