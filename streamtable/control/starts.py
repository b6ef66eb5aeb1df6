"""From where a consumer begins, as it was written, to an offset for each shard."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.starts import LATEST, AtPositions, AtTime, Edge, parse_start
from streamtable.streams.fetcher import Fetches
from streamtable.streams.layout import Layout

__all__ = ["Starts"]

_PEEK_BYTES: Final = 1
_CLOCKS_DIFFER_MS: Final = 60_000


class Starts:
    """Resolves starts against the log as it is now.

    Args:
        log: the log.
        layout: the region's shards.
        now: the time, seconds since 1970.
    """

    def __init__(self, log: Fetches, layout: Layout, now: Callable[[], float] = time.time) -> None:
        self._log = log
        self._layout = layout
        self._now = now

    async def resolve(self, text: str) -> dict[int, int]:
        """Return by shard the offset of the first record.

        A time is the time at which records were appended, and one before the log's beginning is
        its beginning. Where only some shards' positions are given, the others begin at the time
        of the earliest of the records there.

        Raises:
            LogUnavailable: the brokers do not answer.
            ValidationError: the text says no start, or one that the log does not have.
        """
        try:
            start = parse_start(text)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        bounds = await self._bounds()
        if isinstance(start, Edge):
            return {n: end if start is LATEST else first for n, (first, end) in bounds.items()}
        if isinstance(start, AtTime):
            if start.ms > self._now() * 1000 + _CLOCKS_DIFFER_MS:
                raise ValidationError(f"{text!r} is in the future: a consumer begins now at latest")
            return await self._at(start.ms, bounds)
        return await self._positions(start, bounds)

    async def _bounds(self) -> dict[int, tuple[int, int]]:
        numbers = list(self._layout)
        found = await asyncio.gather(*(self._log.bounds(number) for number in numbers))
        return dict(zip(numbers, found, strict=True))

    async def _at(self, ms: int, bounds: dict[int, tuple[int, int]]) -> dict[int, int]:
        found = await asyncio.gather(*(self._log.offset_at(number, ms) for number in bounds))
        return {
            number: bounds[number][1] if offset is None else offset
            for number, offset in zip(bounds, found, strict=True)
        }

    async def _positions(
        self, start: AtPositions, bounds: dict[int, tuple[int, int]]
    ) -> dict[int, int]:
        times = []
        for number, offset in start.offsets.items():
            if number not in bounds:
                raise ValidationError(f"there is no shard {number}: the log has {len(bounds)}")
            first, end = bounds[number]
            if not first <= offset <= end:
                raise ValidationError(
                    f"shard {number} has the offsets {first} to {end}, and not {offset}"
                )
            fetched = await self._log.fetch(number, offset, _PEEK_BYTES)
            if fetched.records:
                times.append(fetched.records[0].timestamp_ms)
        others = {number: each for number, each in bounds.items() if number not in start.offsets}
        if not times:
            return {**{number: end for number, (_, end) in others.items()}, **start.offsets}
        return {**await self._at(min(times), others), **start.offsets}
