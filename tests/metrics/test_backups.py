"""What the page of metrics tells of backups."""

from typing import Any
from uuid import UUID

from streamtable.core.backups import AVAILABLE, CREATING, FAILED, BackupDocument, BackupStatus
from streamtable.core.documents import Restore
from streamtable.core.tables import Table
from streamtable.metrics.backups import BackupMetrics
from tests.streams.shards import TABLE

NOW = 1_000_000.0


def backup(status: BackupStatus, age_s: float, table: Table = TABLE) -> BackupDocument:
    return BackupDocument(
        id=f"{age_s}",
        name="daily",
        status=status,
        created=NOW - age_s,
        table=table.document,
        item_count=0,
        size_bytes=0,
    )


def changed(**update: Any) -> Table:
    return Table(TABLE.document.model_copy(update=update))


def told(backups: list[BackupDocument], *tables: Table) -> dict[tuple[str, ...], float]:
    """What is told, by the metric's name and its labels' values."""
    metrics = BackupMetrics(backups=lambda: backups, tables=lambda: tables, now_s=lambda: NOW)
    return {
        (sample.name.removeprefix("streamtable_"), *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }


def test_how_many_there_are_and_how_old_the_newest_is() -> None:
    gone = changed(id=f"{UUID(int=8)}", name="gone")
    made = [backup(AVAILABLE, 500), backup(AVAILABLE, 300), backup(AVAILABLE, 5, gone)]
    trouble = [backup(CREATING, 40), backup(CREATING, 20), backup(FAILED, 1)]
    assert told([*made, *trouble], TABLE) == {
        ("backups", "CREATING"): 2,
        ("backups", "AVAILABLE"): 3,
        ("backups", "FAILED"): 1,
        ("backups", "REMOVING"): 0,
        ("backup_age_seconds", TABLE.name): 300,
        ("backup_running_seconds",): 40,
        ("tables_restoring",): 0,
    }


def test_tables_that_are_being_restored() -> None:
    restore = Restore(backup="a", source="b", at=0, in_progress=True)
    found = told([], TABLE, changed(id=f"{UUID(int=9)}", name="copy", restore=restore))
    assert found["tables_restoring",] == 1
    assert found["backup_running_seconds",] == 0
