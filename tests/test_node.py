"""What a node looks at before it takes shards."""

import asyncio
import socket
import urllib.request
from pathlib import Path

from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.group_offsets import GroupOffsets
from streamtable.streams.topics import Topics
from tests.support import s3
from tests.support.commands import error_line
from tests.support.ports import free_port
from tests.support.server import Server


def test_a_place_for_checkpoints_that_is_none_ends_the_start(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "local").write_text("")
    line = error_line(
        *("serve", "--port", "0", "--broker-port", "0", "--data", str(tmp_path / "data")),
        *("--checkpoints", str(place), "--log-level", "error"),
    )
    assert f"{place} can't hold checkpoints: can't write local/starts/node-" in line


def test_a_storage_that_does_not_answer_does_not_keep_a_node_from_starting(
    new_server: Server,
) -> None:
    new_server.options = ("--checkpoints", "s3://bucket/tables")
    # Not as the node prints its own.
    url = f"http://localhost:{free_port()}"
    new_server.environment = {**s3.CREDENTIALS, "AWS_ENDPOINT_URL_S3": url}
    new_server.start()
    assert "no checkpoints until the storage answers" in new_server.output()
    with urllib.request.urlopen(f"{new_server.endpoint}/metrics", timeout=60) as answer:
        assert b"streamtable_object_storage_works 0.0" in answer.read()


async def test_a_node_whose_port_is_taken_joins_no_group(tmp_path: Path) -> None:
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    topics = Topics("local")
    groups = GroupOffsets(broker.address, topics.changelog)
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            line = await asyncio.to_thread(
                error_line,
                *("serve", "--kafka", broker.address, "--data", str(tmp_path / "data")),
                *("--port", str(port), "--log-level", "error"),
            )
        assert f"port {port} of 127.0.0.1 is taken by another process" in line
        # Who has been a member stays one until its session is over.
        assert await groups.members(topics.nodes) == 0
    finally:
        await groups.stop()
        await broker.stop()
