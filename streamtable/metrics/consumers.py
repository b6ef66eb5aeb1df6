"""What is told of consumers: triggers, views and search indexes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.metrics_core import GaugeMetricFamily

__all__ = ["consumer_families"]

_BY_SHARD: Final = (
    ("lag_records", "lag", "Records in the log that the consumer has not passed"),
    ("lag_seconds", "lag_s", "Age of the oldest record that the consumer has not passed"),
    ("parked_records", "parked", "Records that are set aside to be tried again"),
    ("lost_records", "lost", "Records that the log let go of before the consumer saw them"),
)
_RUNNING: Final = ("running", "building")
_PAUSED: Final = ("pausing", "paused")


def consumer_families(described: Iterable[Mapping[str, Any]]) -> Iterator[GaugeMetricFamily]:
    """Yield the metrics of consumers.

    Args:
        described: what `Overview.describe` says of them.
    """
    found = list(described)
    for name, states, told in (
        ("running", _RUNNING, "Whether a worker runs the consumer"),
        ("paused", _PAUSED, "Whether somebody has paused the consumer"),
    ):
        family = GaugeMetricFamily(
            f"streamtable_consumer_{name}", told, labels=["consumer", "kind"]
        )
        for each in found:
            family.add_metric([each["key"], each["kind"]], each["state"] in states)
        yield family
    for name, member, told in _BY_SHARD:
        family = GaugeMetricFamily(
            f"streamtable_consumer_{name}", told, labels=["consumer", "kind", "shard"]
        )
        for each in found:
            for shard, one in each["shards"].items():
                family.add_metric([each["key"], each["kind"], shard], one[member])
        yield family
