"""Reads a table, its indexes and its stream, and compares them with one another."""

import asyncio
import json
import time
from typing import Any, Final

from streamtable.core.values import item_size
from tests.support.load import INDEXES, AsyncConnection, Item, Key, State, key_of, state_of

__all__ = ["check_indexes", "check_stream", "read_all", "stream_records"]

_WAIT_S: Final = 60


async def read_all(connection: AsyncConnection, table: str, index: str | None = None) -> list[Item]:
    """Return every item of a table, strongly consistent, or of one of its indexes."""
    named: dict[str, Any] = {"ConsistentRead": True} if index is None else {"IndexName": index}
    items: list[Item] = []
    start: dict[str, Any] = {}
    while True:
        page = await connection.ok("Scan", TableName=table, **named, **start)
        items += page["Items"]
        if "LastEvaluatedKey" not in page:
            return items
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def implied(items: list[Item], index: dict[str, Any]) -> list[str]:
    """Return the rows that an index of these items must have, sorted."""
    keys = [key["AttributeName"] for key in index["KeySchema"]]
    projection = index["Projection"]
    kept = {"owner", "n", *keys, *projection.get("NonKeyAttributes", ())}
    whole = projection["ProjectionType"] == "ALL"
    return _sorted(
        {name: value for name, value in item.items() if whole or name in kept}
        for item in items
        if all(name in item for name in keys)
    )


def _sorted(items: Any) -> list[str]:
    return sorted(json.dumps(state_of(item), sort_keys=True) for item in items)


async def check_indexes(connection: AsyncConnection, table: str, *names: str) -> None:
    """Wait until each index has exactly the rows that the table's items imply.

    Its ItemCount and IndexSizeBytes are those of its rows then.

    Raises:
        AssertionError: it does not have them, for as long as a lagging index may be waited for.
    """
    items = await read_all(connection, table)
    for name in names or INDEXES:
        expected = implied(items, INDEXES[name])
        deadline = time.monotonic() + _WAIT_S
        while (found := _sorted(await read_all(connection, table, name))) != expected:
            if time.monotonic() > deadline:
                few = [row for row in expected if row not in found][:3]
                many = [row for row in found if row not in expected][:3]
                counts = f"{name}: {len(found)} rows, {len(expected)} implied"
                raise AssertionError(f"{counts}; missing {few}, too many {many}")
            await asyncio.sleep(0.05)
    await _check_totals(connection, table, *(names or INDEXES))


async def _check_totals(connection: AsyncConnection, table: str, *names: str) -> None:
    """Wait until each index's totals are those of its rows; they follow the log, as rows do."""
    expected = {}
    for name in names:
        rows = await read_all(connection, table, name)
        expected[name] = (len(rows), sum(item_size(row) for row in rows))
    deadline = time.monotonic() + _WAIT_S
    while (found := await _totals(connection, table, *names)) != expected:
        assert time.monotonic() < deadline, f"{found} described, {expected} there"
        await asyncio.sleep(0.05)


async def _totals(
    connection: AsyncConnection, table: str, *names: str
) -> dict[str, tuple[int, int]]:
    described = (await connection.ok("DescribeTable", TableName=table))["Table"]
    indexes = described.get("LocalSecondaryIndexes", []) + described["GlobalSecondaryIndexes"]
    totals = {each["IndexName"]: (each["ItemCount"], each["IndexSizeBytes"]) for each in indexes}
    return {name: totals[name] for name in names}


async def stream_records(connection: AsyncConnection, table: str) -> list[list[dict[str, Any]]]:
    """Return everything that a table's stream has, shard by shard, in order."""
    [listed] = (await connection.ok("ListStreams", TableName=table))["Streams"]
    arn = listed["StreamArn"]
    stream = (await connection.ok("DescribeStream", StreamArn=arn))["StreamDescription"]
    found = []
    for shard in stream["Shards"]:
        answer = await connection.ok(
            "GetShardIterator",
            StreamArn=arn,
            ShardId=shard["ShardId"],
            ShardIteratorType="TRIM_HORIZON",
        )
        iterator = answer["ShardIterator"]
        records: list[dict[str, Any]] = []
        empty = 0
        while empty < 2 and iterator is not None:
            page = await connection.ok("GetRecords", ShardIterator=iterator)
            records += page["Records"]
            empty = 0 if page["Records"] else empty + 1
            iterator = page.get("NextShardIterator")
        found.append(records)
    return found


async def check_stream(
    connection: AsyncConnection,
    table: str,
    history: dict[Key, list[State]],
    *,
    probes: str | None = None,
) -> list[list[dict[str, Any]]]:
    """Replay a table's stream from empty: it must tell each item's history, and end at the table.

    Args:
        connection: to the server.
        table: the table's name.
        history: every state that each item went through.
        probes: how the partition keys of items begin that have no history.

    Returns:
        The records by shard.
    """
    shards = await stream_records(connection, table)
    replayed: dict[Key, Item] = {}
    told: dict[Key, list[State]] = {}
    for records in shards:
        last = ""
        for record in records:
            data = record["dynamodb"]
            assert last < data["SequenceNumber"], f"{last} comes before {data['SequenceNumber']}"
            last = data["SequenceNumber"]
            key = key_of(data["Keys"])
            old, new = data.get("OldImage"), data.get("NewImage")
            kind = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
            assert record["eventName"] == kind, record
            assert state_of(replayed.get(key)) == state_of(old), (
                f"{key}: the record at {last} follows {old}, but the item was {replayed.get(key)}"
            )
            told.setdefault(key, []).append(state_of(new))
            if new is None:
                del replayed[key]
            else:
                replayed[key] = new
    for key, states in history.items():
        expected = [state_of(state) for state in states]
        assert told.get(key, []) == expected, (
            f"{key}: the stream tells {len(told.get(key, []))} states, {len(expected)} were written"
        )
    untold = told.keys() - {key for key, states in history.items() if states}
    assert not [key for key in untold if probes is None or not key[0].startswith(probes)]
    stored = {key_of(item): state_of(item) for item in await read_all(connection, table)}
    assert {key: state_of(item) for key, item in replayed.items()} == stored
    return shards
