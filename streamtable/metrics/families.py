"""Metrics that are made already."""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["Families"]


class Families(Collector):
    """A collector of metrics that are made already.

    Args:
        families: the metrics.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families
