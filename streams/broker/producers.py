"""Idempotent producers: sequence numbers for each partition, ids and epochs for the broker.

A producer numbers its records for each partition. The broker stores a batch only if it continues
the sequence, answers a repeated one of the last five with its first offset, and refuses the batches
of a producer whose id was given a higher epoch since. Source: KIP-98 and KIP-447; Kafka's
ProducerStateManager keeps five batches too, since a client has at most five in flight.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from streamtable.streams.broker.batches import Batch
from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.disk import Disk
from streamtable.streams.broker.journal import Journal

__all__ = ["NO_PRODUCER", "Duplicate", "PartitionProducers", "Producer", "ProducerIds", "Refused"]

NO_PRODUCER: Final = -1
_KEPT: Final = 5
_LAST_SEQUENCE: Final = 2**31 - 1
_LAST_EPOCH: Final = 2**15 - 2
_BLOCK: Final = 1000
_MOST_IDS: Final = 100_000


class Refused(ValueError):
    """A batch that does not continue its producer's sequence, or is of an old epoch."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Duplicate(NamedTuple):
    """Where a batch that came before is stored."""

    base_offset: int
    last_offset: int


class Stored(NamedTuple):
    """One of a producer's last batches."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int


class Producer(NamedTuple):
    """What a partition knows of a producer; replaced as a whole, so that it can be undone."""

    epoch: int
    batches: tuple[Stored, ...]
    timestamp: int


def advance(sequence: int, by: int) -> int:
    """Return the sequence number `by` records later; it wraps after 2**31 - 1."""
    return (sequence + by) & _LAST_SEQUENCE


class PartitionProducers:
    """The producers of one partition."""

    def __init__(self, fences: dict[int, int]) -> None:
        self._fences = fences
        self._producers: dict[int, Producer] = {}

    def check(self, batch: Batch) -> Duplicate | None:
        """Check a batch before it is stored.

        Returns:
            None if it is to be stored, or where it is already.

        Raises:
            Refused: with OUT_OF_ORDER_SEQUENCE_NUMBER or INVALID_PRODUCER_EPOCH.
        """
        epoch, sequence = batch.producer_epoch, batch.base_sequence
        if epoch < self._fences.get(batch.producer_id, NO_PRODUCER):
            raise Refused(
                Code.INVALID_PRODUCER_EPOCH, f"producer {batch.producer_id} has a newer epoch"
            )
        producer = self._producers.get(batch.producer_id)
        if producer is None:
            return None
        if epoch != producer.epoch:
            if epoch < producer.epoch:
                raise Refused(
                    Code.INVALID_PRODUCER_EPOCH, f"producer {batch.producer_id} has a newer epoch"
                )
            if sequence != 0:
                raise Refused(
                    Code.OUT_OF_ORDER_SEQUENCE_NUMBER, f"a new epoch begins with {sequence}"
                )
            return None
        last_sequence = advance(sequence, batch.last_delta)
        for stored in producer.batches:
            if stored.first_sequence == sequence and stored.last_sequence == last_sequence:
                return Duplicate(stored.base_offset, stored.last_offset)
        expected = advance(producer.batches[-1].last_sequence, 1)
        if sequence != expected:
            raise Refused(
                Code.OUT_OF_ORDER_SEQUENCE_NUMBER, f"sequence {sequence} where {expected} is next"
            )
        return None

    def add(self, batch: Batch, base_offset: int) -> Producer | None:
        """Remember a stored batch; returns what `restore` needs to undo it."""
        before = self._producers.get(batch.producer_id)
        stored = Stored(
            batch.base_sequence,
            advance(batch.base_sequence, batch.last_delta),
            base_offset,
            base_offset + batch.last_delta,
        )
        if before is None or before.epoch != batch.producer_epoch:
            kept: tuple[Stored, ...] = (stored,)
        else:
            kept = (*before.batches[1 - _KEPT :], stored)
        self._producers[batch.producer_id] = Producer(
            batch.producer_epoch, kept, batch.max_timestamp
        )
        return before

    def restore(self, producer_id: int, before: Producer | None) -> None:
        """Undo the newest `add` of a producer."""
        if before is None:
            self._producers.pop(producer_id, None)
        else:
            self._producers[producer_id] = before

    def expire(self, before_ms: int, start_offset: int) -> None:
        """Forget producers that have written nothing since, and whose records are gone."""
        gone = [
            producer_id
            for producer_id, producer in self._producers.items()
            if producer.timestamp < before_ms and producer.batches[-1].last_offset < start_offset
        ]
        for producer_id in gone:
            del self._producers[producer_id]


class ProducerIds:
    """Producer ids and epochs, never given twice; also across restarts.

    Attributes:
        fences: the newest epoch of each producer that has a transactional id.
    """

    def __init__(self, folder: Path, threads: Disk) -> None:
        self.fences: dict[int, int] = {}
        self._transactional: dict[str, tuple[int, int]] = {}
        self._next = 0
        self._reserved = 0
        self._journal = Journal(folder / "producers.journal", threads, self._apply, self._snapshot)
        self.rewrite = self._journal.rewrite
        self.close = self._journal.close

    def load(self) -> None:
        """Read everything back. Blocking: call it from a thread.

        Raises:
            DamagedSegment: a record in the middle is not what was written.
            OSError: the file can't be read or written.
        """
        self._journal.load()
        self._next = self._reserved

    async def initialize(
        self, transactional_id: str | None, producer_id: int, epoch: int
    ) -> tuple[int, int]:
        """Return the (id, epoch) that a producer goes on with; durable when this returns.

        A transactional id keeps its producer id and gets the next epoch, which fences those who
        had it before. A producer that names the id and epoch it has must be the newest one.

        Raises:
            Refused: with PRODUCER_FENCED, or INVALID_REQUEST if there are too many.
            OSError: it could not be made durable.
        """
        if transactional_id is None:
            return await self._new_id(), 0
        had = self._transactional.get(transactional_id)
        if had is not None and producer_id != NO_PRODUCER and had != (producer_id, epoch):
            raise Refused(Code.PRODUCER_FENCED, f"{transactional_id} has a newer producer")
        if had is None and len(self._transactional) >= _MOST_IDS:
            raise Refused(Code.INVALID_REQUEST, f"there are {_MOST_IDS} transactional ids")
        if had is None or had[1] >= _LAST_EPOCH:
            given = await self._new_id(), 0
        else:
            given = had[0], had[1] + 1
        record = {"transactional": transactional_id, "id": given[0], "epoch": given[1]}
        self._journal.write(record)
        self._apply(record)
        await self._journal.sync()
        return given

    async def _new_id(self) -> int:
        given = self._next
        self._next += 1
        if given >= self._reserved:
            record = {"reserved": given + _BLOCK}
            self._journal.write(record)
            self._apply(record)
        await self._journal.sync()
        return given

    def _apply(self, record: dict[str, Any]) -> None:
        if "reserved" in record:
            self._reserved = record["reserved"]
        else:
            producer_id, epoch = record["id"], record["epoch"]
            self._transactional[record["transactional"]] = producer_id, epoch
            self.fences[producer_id] = epoch

    def _snapshot(self) -> Iterator[dict[str, Any]]:
        yield {"reserved": self._reserved}
        for transactional_id, (producer_id, epoch) in self._transactional.items():
            yield {"transactional": transactional_id, "id": producer_id, "epoch": epoch}
