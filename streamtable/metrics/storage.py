"""What is read of the object storage when somebody asks."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from streamtable.consumers.checkpoints.objects import Objects

__all__ = ["StorageMetrics"]


class StorageMetrics(Collector):
    """The metrics of where checkpoints and backups are kept.

    Args:
        objects: the object storage; None where there is none.
    """

    def __init__(self, objects: Objects | None) -> None:
        self._objects = objects

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics as they are now."""
        family = GaugeMetricFamily(
            "streamtable_object_storage_works",
            "Whether what was asked of the object storage last went well",
        )
        if self._objects is not None:
            family.add_metric([], self._objects.works)
        yield family
