"""Clients of a region of several nodes, and the history of what they asked and heard.

Each client asks one node after the other, a new one when it has no answer. An answer with status
503 says that nothing was done; whatever else is no answer leaves open what became of a write.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tests.support.linearizable import NEVER
from tests.support.load import AsyncConnection, Item, Unanswered

__all__ = ["Clients", "Operation"]

_KEYS: Final = 8
_ACCOUNTS: Final = 6
_SINGLE: Final = 10
_MANY: Final = 4
_PAUSE_S: Final = 0.03

_CONFLICTS: Final = {"TransactionConflict", "TransactionConflictException"}


@dataclass
class Operation:
    """What a client asked and heard, as the checker reads it; items are numbers."""

    client: int
    call: float = 0.0
    needs: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, int]] = field(default_factory=list)
    saw: list[tuple[int, int]] = field(default_factory=list)
    done: bool = True
    answered: float = NEVER


class _Nothing(Exception):
    """The request was not carried out: nobody was there for it."""


class _Held(Exception):
    """A transaction holds an item."""


class Clients:
    """Clients that read and write a few items, one by one and in transactions.

    Args:
        table: made by `load.create_table`.
        name: how the keys of their items begin; no other items begin so.
        endpoints: the nodes that they ask.
        chance: decides what they do.

    Attributes:
        answered: how many requests were answered.
        refused: what they were answered with status 5xx, or that there was no answer.
        waits: by request that was answered, how long it took and when it was answered.
    """

    def __init__(
        self, table: str, name: str, endpoints: Sequence[str], chance: random.Random
    ) -> None:
        self.table = table
        self.name = name
        self.answered = 0
        self.refused: list[str] = []
        self.waits: list[tuple[float, float]] = []
        self._endpoints = endpoints
        self._chance = chance
        self._value = 0
        self._singles: dict[int, list[Operation]] = {number: [] for number in range(_KEYS)}
        self._many: list[Operation] = []
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    def __str__(self) -> str:
        return f"{self.answered} answered, {len(self.refused)} not: {self.refused[:3]}"

    # Running

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._run(number, work))
            for number, work in enumerate([self._single] * _SINGLE + [self._transact] * _MANY)
        ]
        await self.more(100)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int, limit_s: float = 60) -> None:
        """Wait until so many more requests are answered."""
        until = self.answered + count
        deadline = time.monotonic() + limit_s
        while self.answered < until:
            for task in self._tasks:
                if task.done():
                    await task
            assert time.monotonic() < deadline, f"no more answers: {self.refused[-3:]}"
            await asyncio.sleep(0.01)

    async def _run(self, number: int, work: Any) -> None:
        place = number
        while not self._ending:
            endpoint = self._endpoints[place % len(self._endpoints)]
            async with AsyncConnection(endpoint) as connection:
                try:
                    while not self._ending:
                        await asyncio.sleep(self._chance.expovariate(1 / _PAUSE_S))
                        with suppress(_Held):
                            await work(number, connection)
                            self.answered += 1
                except (Unanswered, _Nothing) as error:
                    self.refused.append(str(error))
                    await asyncio.sleep(0.1)
            place += 1

    async def _ask(
        self,
        connection: AsyncConnection,
        history: list[Operation],
        asked: Operation,
        operation: str,
        **body: Any,
    ) -> dict[str, Any]:
        """Send a request; note it in the history unless nothing was done.

        Returns:
            The answer to a read.

        Raises:
            Unanswered: nobody knows what was done.
            _Nothing: nothing was done.
        """
        asked.call = time.monotonic()
        try:
            status, answer = await connection.call(operation, body)
        except Unanswered as error:
            if "ConnectionRefused" in str(error):
                raise _Nothing(str(error)) from None
            status, answer = 500, {"message": str(error)}
        codes = {reason["Code"] for reason in answer.get("CancellationReasons", ())}
        codes |= {answer.get("__type", "").rpartition("#")[2]}
        if status == 503 or (status == 500 and not asked.writes):
            raise _Nothing(f"{status} {answer}")
        if status == 400:
            if codes & _CONFLICTS:
                raise _Held
            asked.done = False
            assert "ConditionalCheckFailed" in " ".join(codes), answer
        if status != 500:
            asked.answered = time.monotonic()
            self.waits.append((asked.answered, asked.answered - asked.call))
        history.append(asked)
        if status == 500:
            raise Unanswered(str(answer))
        return answer

    # What they do

    async def _single(self, client: int, connection: AsyncConnection) -> None:
        """Read an item, put it, put it if it is as expected, or delete it."""
        number = self._chance.randrange(_KEYS)
        history = self._singles[number]
        key = self._key(f"item {number}")
        asked = Operation(client)
        named: dict[str, Any] = {"TableName": self.table}
        match self._chance.choice(("get", "get", "put", "put", "put if", "delete")):
            case "get":
                await self._get(connection, history, asked, named | {"Key": key})
            case "put":
                named |= self._put(asked, 0, key)
                await self._ask(connection, history, asked, "PutItem", **named)
            case "put if":
                recent = [value for each in history[-4:] for _, value in each.writes]
                named |= self._expect(asked, 0, self._chance.choice([0, *recent]))
                named |= self._put(asked, 0, key)
                await self._ask(connection, history, asked, "PutItem", **named)
            case "delete":
                asked.writes.append((0, 0))
                await self._ask(connection, history, asked, "DeleteItem", **named, Key=key)

    async def _get(
        self,
        connection: AsyncConnection,
        history: list[Operation],
        asked: Operation,
        named: dict[str, Any],
    ) -> None:
        answer = await self._ask(
            connection, history, asked, "GetItem", **named, ConsistentRead=True
        )
        asked.saw.append((0, _value(answer)))

    async def _transact(self, client: int, connection: AsyncConnection) -> None:
        """Read a few items at one time, or write them, some on a condition."""
        asked = Operation(client)
        places = self._chance.sample(range(_ACCOUNTS), self._chance.randint(2, 3))
        actions: list[dict[str, Any]] = []
        if self._chance.random() < 0.4:
            for place in places:
                get = {"TableName": self.table, "Key": self._key(f"account {place}")}
                actions.append({"Get": get})
            answer = await self._ask(
                connection, self._many, asked, "TransactGetItems", TransactItems=actions
            )
            for place, found in zip(places, answer["Responses"], strict=True):
                asked.saw.append((place, _value(found)))
            return
        recent = [value for each in self._many[-4:] for _, value in each.writes]
        for place in places:
            put: dict[str, Any] = {"TableName": self.table}
            if self._chance.random() < 0.3:
                put |= self._expect(asked, place, self._chance.choice([0, *recent]))
            put |= self._put(asked, place, self._key(f"account {place}"))
            actions.append({"Put": put})
        await self._ask(connection, self._many, asked, "TransactWriteItems", TransactItems=actions)

    def _key(self, name: str) -> Item:
        return {"owner": {"S": f"{self.name} {name}"}, "n": {"S": "0"}}

    def _put(self, asked: Operation, place: int, key: Item) -> dict[str, Any]:
        self._value += 1
        asked.writes.append((place, self._value))
        group = {"S": f"{self.name} {self._value % 7}"}
        return {
            "Item": {
                **key,
                "value": {"N": str(self._value)},
                "group": group,
                "rank": {"N": str(self._value % 5)},
            }
        }

    @staticmethod
    def _expect(asked: Operation, place: int, value: int) -> dict[str, Any]:
        asked.needs.append((place, value))
        if not value:
            return {"ConditionExpression": "attribute_not_exists(n)"}
        return {
            "ConditionExpression": "#value = :expected",
            "ExpressionAttributeNames": {"#value": "value"},
            "ExpressionAttributeValues": {":expected": {"N": str(value)}},
        }

    # What came of it

    def histories(self) -> list[dict[str, Any]]:
        """Return what was asked and heard, for the checker."""
        named = {f"item {number}": found for number, found in self._singles.items()}
        named["accounts"] = self._many
        start = min((one.call for found in named.values() for one in found), default=0)
        return [
            {
                "name": f"{self.name} {name}",
                "operations": [
                    vars(one)
                    | {"call": one.call - start, "answered": min(NEVER, one.answered - start)}
                    for one in found
                    if one.writes or one.answered < NEVER
                ],
            }
            for name, found in named.items()
        ]

    def check_records(self, shards: list[list[dict[str, Any]]]) -> None:
        """Check that each answered write is in the stream once, and nothing that was not asked.

        Args:
            shards: the stream's records, shard by shard.
        """
        told: list[int] = []
        for records in shards:
            for record in records:
                image = record["dynamodb"].get("NewImage")
                if image is not None and image["owner"]["S"].startswith(f"{self.name} "):
                    told.append(int(image["value"]["N"]))
        assert len(told) == len(set(told)), "a write is in the stream twice"
        every = [*self._many, *(one for found in self._singles.values() for one in found)]
        asked = {value for one in every if one.done for _, value in one.writes if value}
        sure = {
            value
            for one in every
            if one.done and one.answered < NEVER
            for _, value in one.writes
            if value
        }
        assert sure <= set(told), f"answered, and not in the stream: {sorted(sure - set(told))}"
        assert set(told) <= asked, f"not asked, or refused: {sorted(set(told) - asked)}"


def _value(answer: dict[str, Any]) -> int:
    return int(answer["Item"]["value"]["N"]) if "Item" in answer else 0
