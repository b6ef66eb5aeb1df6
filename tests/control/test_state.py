"""What consumers keep, in the hidden table of a real node."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from streamtable.consumers.triggers.state import HOLDER, HeldByAnother
from streamtable.control.state import STATE_TABLE, TableStateStore
from streamtable.triggers.endpoint import Endpoint
from streamtable.triggers.patience import PatientCalls


@pytest.fixture
async def store(endpoint: str) -> AsyncIterator[TableStateStore]:
    async with Endpoint(endpoint) as node:
        # A worker's first report makes the table.
        report = {"worker": "w", "app": "a", "consumers": {}}
        await node.post("/_streamtable/workers/report", report)
        yield TableStateStore(PatientCalls(node))


@pytest.fixture
def owner() -> str:
    return f"trigger/shop/{uuid4().hex}/1/0"


async def test_what_is_saved_is_loaded_in_the_order_of_ids(store, owner):
    await store.save(owner, {"parked/2": {"n": [1, None, "ä"]}, "parked/1": {}, "window": {"s": 1}})
    found = await store.load(owner)
    assert found == {"parked/1": {}, "parked/2": {"n": [1, None, "ä"]}, "window": {"s": 1}}
    assert list(found) == ["parked/1", "parked/2", "window"]
    assert await store.load(owner + "0") == {}


async def test_none_removes_also_what_is_not_there(store, owner):
    await store.save(owner, {"a": {"n": 1}, "b": {"n": 2}})
    await store.save(owner, {"a": None, "b": {"n": 3}, "c": None})
    assert await store.load(owner) == {"b": {"n": 3}}
    await store.save(owner, {})


async def test_who_has_lost_the_hold_on_an_owner_changes_nothing(store, owner):
    await store.save(owner, {HOLDER: {"id": "first"}})
    await store.save(owner, {"a": {"n": 1}}, "first")
    await store.save(owner, {HOLDER: {"id": "second"}})
    with pytest.raises(HeldByAnother, match=f"{owner} is held by another worker now"):
        await store.save(owner, {"a": {"n": 2}, "b": {"n": 2}}, "first")
    await store.save(owner, {"c": {"n": 3}}, "second")
    assert await store.load(owner) == {"a": {"n": 1}, "c": {"n": 3}, HOLDER: {"id": "second"}}
    await store.save(owner, {HOLDER: None})
    with pytest.raises(HeldByAnother):
        await store.save(owner, {"a": None}, "second")


async def test_many_and_large(store, owner):
    rows = {f"{n:03}": {"text": "x" * 60_000} for n in range(60)}
    await store.save(owner, rows)
    assert await store.load(owner) == rows


async def test_clients_do_not_see_the_table(store, client: Any):
    listed = [name for page in client.get_paginator("list_tables").paginate() for name in
              page["TableNames"]]  # fmt: skip
    assert STATE_TABLE not in listed
    with pytest.raises(client.exceptions.ClientError, match="protected against deletion"):
        client.delete_table(TableName=STATE_TABLE)
