"""A worker's connections to a node's brokers, shared by all that it runs."""

import asyncio

from streamtable.consumers.dead_letters import DeadLetterReader, DeadLetterWriter
from streamtable.streams.fetcher import LogFetcher
from streamtable.streams.topics import Topics
from streamtable.triggers.endpoint import NodeDescription

__all__ = ["Brokers"]


class Brokers:
    """Reads the log and the dead letters at any place, and writes dead letters.

    Args:
        node: says where the brokers are.
    """

    def __init__(self, node: NodeDescription) -> None:
        topic = Topics(node.region).deadletters
        self.log = LogFetcher(node.kafka, node.changelog)
        """The change log; to be used after `open`."""
        self.written = DeadLetterWriter(node.kafka, topic)
        """Where dead letters go."""
        self.read = DeadLetterReader(node.kafka, topic)
        """Where dead letters are read."""
        self._opening = asyncio.Lock()
        self._open = False

    async def open(self) -> None:
        """Connect, if that was not done yet.

        Raises:
            LogUnavailable: the brokers do not answer; it may be called again.
        """
        async with self._opening:
            if not self._open:
                await self.log.start()
                self._open = True

    async def close(self) -> None:
        """Close the connections."""
        await self.log.stop()
        await self.written.close()
        await self.read.close()
