"""What is read of the backups when somebody asks."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import get_args

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from streamtable.core.backups import AVAILABLE, CREATING, BackupDocument, BackupStatus
from streamtable.core.tables import Table

__all__ = ["BackupMetrics"]


class BackupMetrics(Collector):
    """The backups' metrics. They are the region's, and each node tells of all of them.

    Args:
        backups: all backups.
        tables: all tables.
        now_s: the time, seconds since 1970.
    """

    def __init__(
        self,
        *,
        backups: Callable[[], Iterable[BackupDocument]],
        tables: Callable[[], Iterable[Table]],
        now_s: Callable[[], float],
    ) -> None:
        self._backups = backups
        self._tables = tables
        self._now_s = now_s

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics as they are now."""
        backups, tables = list(self._backups()), list(self._tables())
        count = GaugeMetricFamily("streamtable_backups", "Backups", labels=["status"])
        statuses = Counter(backup.status for backup in backups)
        for status in get_args(BackupStatus):
            count.add_metric([status], statuses[status])
        yield count
        age = GaugeMetricFamily(
            "streamtable_backup_age_seconds",
            "Age of the newest available backup of a table that there is",
            labels=["table"],
        )
        newest: dict[str, float] = {}
        for backup in backups:
            if backup.status == AVAILABLE:
                newest[backup.table.id] = max(backup.created, newest.get(backup.table.id, 0.0))
        for table in tables:
            if table.id in newest:
                age.add_metric([table.name], self._since(newest[table.id]))
        yield age
        running = GaugeMetricFamily(
            "streamtable_backup_running_seconds",
            "For how long the oldest of the backups that are being made has been under way",
        )
        begun = [backup.created for backup in backups if backup.status == CREATING]
        running.add_metric([], self._since(min(begun)) if begun else 0.0)
        yield running
        yield GaugeMetricFamily(
            "streamtable_tables_restoring",
            "Tables that are being made of a backup",
            value=sum(table.document.restoring for table in tables),
        )

    def _since(self, then: float) -> float:
        return max(0.0, self._now_s() - then)
