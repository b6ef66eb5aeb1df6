"""Appends of this machine's processes to the broker that their parent has.

Through Kafka's protocol an append costs its process five times as much: aiokafka's client makes a
task wait for each answer, and TCP is slower than a socket of the machine. Batches and answers of
one moment go over it together, as calls between nodes do.
"""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final

from aiokafka.errors import KafkaConnectionError

from streamtable.core.errors import ApiError
from streamtable.streams.broker import Broker
from streamtable.streams.peers.client import PeerClient, PeerLost
from streamtable.streams.peers.frames import Packed
from streamtable.streams.peers.server import Call, PeerServer

__all__ = ["AppendClient", "AppendServer"]

_HOST: Final = "127.0.0.1"
_APPEND: Final = "append"
_PRODUCER: Final = "producer"


class AppendServer:
    """Takes the appends of other processes. Who reaches the broker's port may append there too.

    Args:
        broker: the broker.
        region: its region.
        sockets: the folder for the socket.
    """

    def __init__(self, broker: Broker, region: str, sockets: Path) -> None:
        self._broker = broker
        calls: dict[str, Call] = {_APPEND: self._append, _PRODUCER: broker.open_producer}
        self._server = PeerServer(
            region, calls.__getitem__, lambda: 0, _read_at_once, sockets=sockets
        )

    async def start(self) -> str:
        """Listen; return the address for clients.

        Raises:
            PeersUnavailable: there is no port to be had.
        """
        return f"{_HOST}:{await self._server.start(_HOST, 0)}"

    async def stop(self) -> None:
        """Close all connections. What is being appended may be in the log, or not."""
        await self._server.stop()

    def _append(self, arguments: Any) -> Awaitable[tuple[int, int]]:
        (topic, partition), batch = arguments
        return self._broker.append(topic, partition, batch)


class AppendClient:
    """Appends to the broker of another process.

    Args:
        address: what `AppendServer.start` returned.
        region: the region.
        sockets: the folder of its socket.
    """

    def __init__(self, address: str, region: str, sockets: Path) -> None:
        self._address = address
        self._client = PeerClient(region, sockets=sockets)

    async def open_producer(self, name: str) -> tuple[int, int]:
        """Give a producer its id and a new epoch; see `Broker.open_producer`.

        Raises:
            KafkaConnectionError: the broker did not, or gave no answer.
        """
        return await self._call(_PRODUCER, name)

    async def append(self, topic: str, partition: int, batch: bytes) -> tuple[int, int]:
        """Append a record batch; see `Broker.append`.

        Raises:
            KafkaConnectionError: the broker gave no answer. The batch may be in the log, or not.
        """
        return await self._call(_APPEND, Packed([topic, partition], batch))

    async def _call(self, method: str, arguments: Any) -> tuple[int, int]:
        try:
            first, second = await self._client.call(self._address, method, arguments)
        except (ApiError, PeerLost) as error:
            raise KafkaConnectionError(str(error)) from error
        return first, second

    async def stop(self) -> None:
        """Close the connection."""
        await self._client.stop()


async def _read_at_once(_catalog: int) -> None:
    """Wait for no catalog: there is none."""
