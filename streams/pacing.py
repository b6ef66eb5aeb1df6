"""How often consumers that nobody waits for fetch.

What one fetch costs is shared by many records where the broker gathers them for some milliseconds.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer

__all__ = ["Next", "Pace", "longest_fetch_ms", "pace", "set_next"]

_PAUSE_S: Final = 0.02
# Where records come all the time the broker gathers them, so that each fetch brings many: what it
# costs itself is worth more than their age. What a pause would leave of them in the consumer, which
# asks for more meanwhile, is a few records, for which it pauses again.
_MANY: Final = 4
_GULP_BYTES: Final = 512 * 1024
# A consumer has one fetch under way: what comes on a shard that it does not ask for waits as long.
_FETCH_MS: Final = 50
# Each fetch costs 15 microseconds a partition, whether something comes or not.
_PARTITIONS_PER_MS: Final = 2
_PAUSE_S_PER_PARTITION: Final = 0.0001
_UNPACED_MS: Final = 250


class Next(NamedTuple):
    """How the next records are fetched.

    Attributes:
        pause_s: how long to wait before what it has brought is looked at.
        wait_ms: how long it waits for records, at most. A partition that was full is asked for
            again at the fetch after it.
        least_bytes: how much it waits for.
    """

    pause_s: float = 0.0
    wait_ms: int = _UNPACED_MS
    least_bytes: int = 1


Pace: TypeAlias = Callable[[int, int], Next]
"""Says how to go on after a fetch: how many records it has brought, of how many partitions."""


def longest_fetch_ms(partitions: int) -> int:
    """How long a fetch waits where nothing comes, so that idle shards cost next to nothing."""
    return max(_FETCH_MS, partitions // _PARTITIONS_PER_MS)


def pace(records: int, partitions: int, idle_ms: int | None = None) -> Next:
    """How a consumer fetches that gulps, see `Pace`.

    It pauses where a fetch has brought few records, or is dear because it asks for very many
    partitions.

    Args:
        records: how many the last fetch has brought.
        partitions: of how many partitions.
        idle_ms: how long a fetch waits where nothing comes, if not `longest_fetch_ms`.
    """
    pause_s = max(_PAUSE_S, partitions * _PAUSE_S_PER_PARTITION)
    if records >= _MANY and pause_s * 1000 <= _FETCH_MS:
        return Next(wait_ms=_FETCH_MS, least_bytes=_GULP_BYTES)
    return Next(
        pause_s=pause_s, wait_ms=longest_fetch_ms(partitions) if idle_ms is None else idle_ms
    )


def set_next(consumer: AIOKafkaConsumer, following: Next) -> None:
    """Set how the next fetch of a consumer waits; neither Faust nor aiokafka has a setting."""
    fetcher: Any = consumer._fetcher  # noqa: SLF001 - see above
    fetcher._fetch_max_wait_ms = following.wait_ms  # noqa: SLF001
    fetcher._fetch_min_bytes = following.least_bytes  # noqa: SLF001
