"""The workers that report to this node, and what they said last."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamtable.control.bodies import ConsumerReport, Report

__all__ = ["Workers"]

_GONE_S: Final = 5.0
# States in which a worker has nothing of a consumer in its hands.
_IDLE: Final = frozenset({"paused", "stopped"})


@dataclass(frozen=True, slots=True)
class _Told:
    report: Report
    at: float


class Workers:
    """What each worker reported last; a worker that is silent for 5 s is gone.

    Args:
        now: a clock that only goes forward, seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._told: dict[str, _Told] = {}

    def note(self, report: Report) -> None:
        """Take a worker's report in place of the one before."""
        now = self._now()
        for worker in [each for each, told in self._told.items() if now - told.at > _GONE_S]:
            del self._told[worker]
        self._told[report.worker] = _Told(report, now)

    def reports(self, app: str, name: str) -> dict[str, ConsumerReport]:
        """Return by worker what is reported of a consumer now."""
        oldest = self._now() - _GONE_S
        return {
            worker: told.report.consumers[name]
            for worker, told in sorted(self._told.items())
            if told.at >= oldest and told.report.app == app and name in told.report.consumers
        }

    def running(self, key: str) -> list[str]:
        """Return the ids of the workers that have a consumer in their hands, by its key."""
        app, _, name = key.partition("/")
        found = self.reports(app, name).items()
        return [worker for worker, report in found if report.state not in _IDLE]
