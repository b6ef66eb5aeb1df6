"""Following a log in gulps, for consumers that nobody waits for.

The overlay answers reads, so what materializes the tables may be some milliseconds behind: taken
in gulps, what one fetch and one batch cost is shared by many commits, also when few come at a
time. When nothing comes, nothing is done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

__all__ = ["Gulps"]

_GATHER_S: Final = 0.002
_MOST: Final = 8192
_MOST_BYTES: Final = 8 * 1024 * 1024


class Gulps:
    """Gathers the records of one partition and has them applied together.

    Args:
        apply: takes the records of a gulp, in order.
        done: told the offset after the last record that was applied.
        fail: told what `apply` raised; nothing is applied after that.
    """

    def __init__(
        self,
        apply: Callable[[list[Any]], Awaitable[None]],
        done: Callable[[int], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._apply = apply
        self._done = done
        self._fail = fail
        self._records: list[Any] = []
        self._size_bytes = 0
        self._some = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether no more should be added before the next gulp."""
        return len(self._records) >= _MOST or self._size_bytes >= _MOST_BYTES

    def add(self, records: Sequence[Any]) -> None:
        """Take records, in order."""
        self._records += records
        self._size_bytes += sum(len(record.value or b"") for record in records)
        self._some.set()

    async def run(self) -> None:
        """Apply what is added, until it is cancelled or `apply` raises."""
        while True:
            await self._some.wait()
            await asyncio.sleep(_GATHER_S)
            records, self._records = self._records, []
            self._size_bytes = 0
            self._some.clear()
            following = records[-1].offset + 1
            try:
                await self._apply(records)
            except Exception as error:  # noqa: BLE001 - whatever it was, nothing may be skipped
                self._fail(error)
                return
            self._done(following)
