"""Where a log begins and ends, by a leader that knows."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["bounds_reaching"]

_LOOKS: Final = 10
_PAUSE_S: Final = 0.2


async def bounds_reaching(
    offset: int, bounds: Callable[[], Awaitable[tuple[int, int]]]
) -> tuple[int, int]:
    """Return the offsets of a log's first record and of the next one to come.

    A broker that has stood still goes on as the leader that it was, for some tenths of a second,
    and names an end of long ago. So where the log is said to end before what is known to have been
    in it, it is asked again.

    Args:
        offset: of a record that was in the log.
        bounds: asks for the two.

    Returns:
        What was said last: without the offset, if that is gone.

    Raises:
        LogUnavailable: the brokers do not answer.
    """
    for _ in range(_LOOKS):
        first, end = await bounds()
        if offset < end:
            break
        await asyncio.sleep(_PAUSE_S)
    return first, end
