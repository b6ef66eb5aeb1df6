"""What is to become of changes that failed, or are too old."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from streamtable.consumers.dead_letters import Reason, letter_error
from streamtable.consumers.triggers.clock import Clock
from streamtable.consumers.triggers.deliveries import Rejected
from streamtable.consumers.triggers.entries import Entry
from streamtable.consumers.triggers.options import MAX_AGE_S, TriggerOptions
from streamtable.consumers.triggers.parked_changes import ChangeGone

__all__ = ["LONGEST_DELAY_MS", "Verdicts", "delay_ms", "is_overtaken"]

_BACKOFF_S: Final = 0.2
_MAX_BACKOFF_S: Final = 30.0

LONGEST_DELAY_MS: Final = int(_MAX_BACKOFF_S * 1000)
"""The longest time between two tries."""


class Verdicts:
    """Says which changes are given up.

    Args:
        options: how the trigger wants its changes.
        clock: tells the time.
    """

    def __init__(self, options: TriggerOptions, clock: Clock) -> None:
        self._retries = options.retries
        self._max_age_ms = int(min(options.max_age_s, MAX_AGE_S) * 1000)
        self._tries_the_old = options.max_age_s >= MAX_AGE_S
        self._clock = clock

    def before(self, entry: Entry) -> BaseException | None:
        """Return why a change is not to be tried: it is too old, or lost."""
        if entry.change is None:
            return ChangeGone("the change is gone from the log")
        age_ms = self._clock.now_ms() - entry.born_ms
        if age_ms <= self._max_age_ms or (self._tries_the_old and not entry.attempts):
            return None
        last = "" if entry.error is None else f"; it failed with {entry.error['message']}"
        return TimeoutError(f"the change is {age_ms / 1000:.0f} s old{last}")

    def after(self, entry: Entry, error: BaseException, jitter: float) -> Reason | None:
        """Take note that a change has failed; say why it is given up, if it is."""
        now_ms = self._clock.now_ms()
        entry.attempts += 1
        entry.first_failed_ms = entry.first_failed_ms or self._clock.wall_ms()
        entry.error = letter_error(error)
        if isinstance(error, Rejected):
            return "rejected"
        if self.too_many(entry.attempts):
            return "retries"
        entry.next_ms = now_ms + delay_ms(entry.attempts, jitter)
        if entry.next_ms - entry.born_ms > self._max_age_ms:
            return "age"
        return None

    def too_many(self, failures: int) -> bool:
        """Say whether so many failures in a row are more than the trigger wants."""
        return self._retries is not None and failures > self._retries

    def over(self, end_ms: int) -> bool:
        """Say whether what ended then, since 1970, is too old to be tried again."""
        return self._clock.wall_ms() - end_ms > self._max_age_ms


def is_overtaken(
    entries: Sequence[Entry], failed: Mapping[int, BaseException], again: Collection[int]
) -> bool:
    """Say whether a change is handled that follows on one of its item that is not."""
    stuck: set[bytes] = set()
    for index, entry in enumerate(entries):
        if index in failed or index in again:
            stuck.add(entry.key)
        elif entry.key in stuck:
            return True
    return False


def delay_ms(failures: int, jitter: float) -> int:
    """Return how long to wait after so many failures in a row."""
    delay_s = min(_MAX_BACKOFF_S, _BACKOFF_S * 2 ** min(failures - 1, 20))
    return int(delay_s * (0.5 + jitter / 2) * 1000)
