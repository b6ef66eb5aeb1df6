"""A node never reads what a newer version wrote: it stops, says so, and does not start again."""

import asyncio
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from streamtable.streams import formats
from tests.support.commands import run
from tests.support.server import Server

COMMIT = b'{"changes":[]}'
ROWS = orjson.dumps({"source": 0, "entries": []})
DOCUMENT = orjson.dumps({"base": 0, "document": None})


async def append(address: str, topic: str, value: bytes, version: int) -> None:
    # In the change log: a commit of somebody whose term is over.
    headers = [
        ("kind", b"commit"),
        ("epoch", b"other"),
        (formats.HEADER, str(version).encode()),
    ]
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, b"table/users", partition=0, headers=headers)
    finally:
        await producer.stop()


@pytest.mark.parametrize(
    ("topic", "known", "value", "named"),
    [
        ("changelog", formats.CHANGELOG, COMMIT, "shard 0 of the change log"),
        ("indexes", formats.INDEXES, ROWS, "shard 0 of the indexes' log"),
        ("catalog", formats.CATALOG, DOCUMENT, "shard 0 of the catalog"),
    ],
)
def test_a_record_of_a_newer_format(tmp_path: Path, topic, known, value, named):
    data = tmp_path / "data"
    server = Server(data, "--shards", "1").start()
    # One of a format that is known stops nobody, also where it says so.
    asyncio.run(append(server.broker, f"local.{topic}", value, known))
    assert server.node()["shards"] == 1
    asyncio.run(append(server.broker, f"local.{topic}", value, known + 1))
    assert server.ended() == 1, server.output()
    told = f"of {named} has format {known + 1}, this version of streamtable knows formats up to"
    assert told in server.output()
    code, _, err = run("serve", "--port", "0", "--broker-port", "0", "--data", str(data))
    assert code == 1
    *_, last = err.splitlines()
    assert last.startswith("error: the record at offset")
    assert told in last
