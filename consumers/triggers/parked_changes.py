"""Reads the change that a parked entry refers to."""

from streamtable.consumers.dead_letters import DeadLetterReader, LetterGone
from streamtable.consumers.triggers.entries import Entry
from streamtable.core.changes import Change
from streamtable.streams.fetcher import Fetches, LogTrimmed
from streamtable.streams.records import LogRecord

__all__ = ["ChangeGone", "ParkedChanges"]


class ChangeGone(LogTrimmed):
    """Neither the log nor the dead letters have a parked change any more."""


class ParkedChanges:
    """Reads parked changes from the log, or from the dead letters.

    Args:
        log: the change log.
        letters: the dead letters.
    """

    def __init__(self, log: Fetches, letters: DeadLetterReader) -> None:
        self._log = log
        self._letters = letters
        self._last: LogRecord | None = None

    async def read(self, entry: Entry) -> Change:
        """Return the change.

        Raises:
            ChangeGone: nobody has it any more.
            LogUnavailable: the brokers do not answer.
        """
        if entry.letter is not None:
            return await self._read_letter(*entry.letter)
        position = entry.position
        record = self._last
        if record is None or (record.shard, record.offset) != (position.shard, position.offset):
            record = await self._read_log(position.shard, position.offset)
            self._last = record
        return record.changes()[position.index]

    async def _read_log(self, shard: int, offset: int) -> LogRecord:
        try:
            fetched = await self._log.fetch(shard, offset, 1)
        except LogTrimmed as error:
            raise ChangeGone(str(error)) from error
        if not fetched.records or fetched.records[0].offset != offset:
            raise ChangeGone(f"the log of shard {shard} has no record at {offset}")
        return fetched.records[0]

    async def _read_letter(self, partition: int, offset: int) -> Change:
        try:
            letter = await self._letters.read(partition, offset)
        except LetterGone as error:
            raise ChangeGone(str(error)) from error
        change = letter.content()
        if change is None:
            raise ChangeGone(f"the log had lost the change of {letter.id} already")
        return change
