"""What is counted where it happens: requests and appends."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics

__all__ = ["Meters"]

_SECONDS: Final = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1),
    *(0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
_CHANGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Meters:
    """Counts requests and appends as they end; each costs about half a microsecond.

    Attributes:
        registry: has the metrics.
    """

    def __init__(self) -> None:
        # When each series began is of no use to anybody here, and doubles the page.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it takes and gives nothing
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "streamtable_request_seconds",
            "Time from a request's first byte to its answer",
            ["operation", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._appends = Histogram(
            "streamtable_append_seconds",
            "Time from sending a commit to the log until it is durable there",
            ["shard"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._changes = Histogram(
            "streamtable_commit_changes",
            "Changes of items in a commit",
            ["shard"],
            buckets=_CHANGES,
            registry=self.registry,
        )
        # Finding a series by its labels takes three times as long as counting.
        self._by_answer: dict[tuple[str, int], Callable[[float], None]] = {}

    def request(self, operation: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        observe = self._by_answer.get((operation, status))
        if observe is None:
            observe = self._requests.labels(operation, str(status)).observe
            self._by_answer[operation, status] = observe
        observe(seconds)

    def appends(self, shard: int) -> Callable[[int, float], None]:
        """Return what counts a shard's commits: changes, and seconds until it was durable."""
        changes, seconds = self._changes.labels(str(shard)), self._appends.labels(str(shard))

        def count(number: int, took_s: float) -> None:
            changes.observe(number)
            seconds.observe(took_s)

        return count
