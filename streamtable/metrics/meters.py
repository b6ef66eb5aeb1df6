"""What is counted where it happens: requests and appends."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

__all__ = ["Meters"]

_SECONDS: Final = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1),
    *(0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
_CHANGES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


class _Series:
    """How often a value fell into each bucket; the last one is for what is above all bounds."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class _Histogram(Collector):
    """One metric, a histogram for each set of labels.

    prometheus_client's own takes a lock for each of its numbers, as if several threads counted:
    here all is counted in the event loop, in a tenth of the time.
    """

    def __init__(
        self, name: str, told: str, labels: tuple[str, ...], bounds: tuple[float, ...]
    ) -> None:
        self._name = name
        self._told = told
        self._labels = labels
        self._bounds = bounds
        self._series: dict[tuple[str, ...], _Series] = {}

    def series(self, *labels: str) -> _Series:
        """The histogram of these labels."""
        return self._series.setdefault(labels, _Series(self._bounds))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the metric as it is now."""
        family = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        bounds = [*map(str, self._bounds), "+Inf"]
        for labels, series in self._series.items():
            buckets = list(zip(bounds, accumulate(series.counts), strict=True))
            family.add_metric(labels, buckets, series.total)
        yield family


class Meters:
    """Counts requests and appends as they end.

    Attributes:
        registry: has the metrics.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Histogram(
            "streamtable_request_seconds",
            "Time from a request's first byte to its answer",
            ("operation", "status"),
            _SECONDS,
        )
        self._appends = _Histogram(
            "streamtable_append_seconds",
            "Time from sending a commit to the log until it is durable there",
            ("shard",),
            _SECONDS,
        )
        self._changes = _Histogram(
            "streamtable_commit_changes", "Changes of items in a commit", ("shard",), _CHANGES
        )
        for histogram in (self._requests, self._appends, self._changes):
            self.registry.register(histogram)
        self._by_answer: dict[tuple[str, int], Callable[[float], None]] = {}

    def request(self, operation: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        observe = self._by_answer.get((operation, status))
        if observe is None:
            observe = self._requests.series(operation, str(status)).observe
            self._by_answer[operation, status] = observe
        observe(seconds)

    def appends(self, shard: int) -> Callable[[int, float], None]:
        """Return what counts a shard's commits: changes, and seconds until it was durable."""
        changes, seconds = self._changes.series(str(shard)), self._appends.series(str(shard))

        def count(number: int, took_s: float) -> None:
            changes.observe(number)
            seconds.observe(took_s)

        return count
