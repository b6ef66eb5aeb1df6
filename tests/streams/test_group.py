"""A member of a consumer group: what it relies on of aiokafka's inside."""

from pathlib import Path

from aiokafka.conn import create_conn

from streamtable.streams.broker import Broker, BrokerSettings
from streamtable.streams.group import READ_BYTES


async def test_a_connection_reads_on_while_an_answer_of_megabytes_arrives(tmp_path: Path):
    broker = Broker(BrokerSettings(data=tmp_path / "broker", port=0))
    await broker.start()
    host, port = broker.address.split(":")
    connection = await create_conn(host, int(port))
    assert connection._reader._limit == READ_BYTES
    connection.close()
    await broker.stop()
