"""RestoreTableFromBackup: from a request and a backup to the document of the new table."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streamtable.core.backups import AVAILABLE, CREATING, BackupDocument
from streamtable.core.documents import (
    ACTIVE,
    DELETING,
    PAY_PER_REQUEST,
    IndexDocument,
    Restore,
    TableDocument,
    Throughput,
)
from streamtable.core.errors import (
    INVALID,
    BackupInUse,
    LimitExceeded,
    TableAlreadyExists,
    TableInUse,
    ValidationError,
)
from streamtable.core.limits import RESTORES
from streamtable.core.operations import index_definitions, table_settings, throughputs

__all__ = ["check_restorable", "finish_restore", "plan_restore"]

_GLOBAL = "GlobalSecondaryIndexOverride"
_LOCAL = "LocalSecondaryIndexOverride"
_THROUGHPUT = "ProvisionedThroughput"


def check_restorable(backup: BackupDocument, name: str, tables: Iterable[TableDocument]) -> None:
    """Check that a table can be restored from a backup, under a name.

    Args:
        backup: the backup.
        name: the new table's.
        tables: all that there are.

    Raises:
        BackupInUse: the backup is not made yet.
        LimitExceeded: too many tables are being restored.
        TableAlreadyExists: there is a table of that name.
        TableInUse: it is being created or deleted.
        ValidationError: the backup could not be made.
    """
    if backup.status == CREATING:
        raise BackupInUse(f"Backup is being created: {backup.arn}")
    if backup.status != AVAILABLE:
        raise ValidationError(f"There is nothing to restore, the backup failed: {backup.arn}")
    restoring = 0
    for table in tables:
        restoring += table.restoring
        if table.name != name:
            continue
        if table.status in ("CREATING", "DELETING"):
            state = "created" if table.status == "CREATING" else "deleted"
            raise TableInUse(f"Table is being {state}: {name}")
        raise TableAlreadyExists(f"Table already exists: {name}")
    if restoring >= RESTORES:
        raise LimitExceeded(f"Too many tables are being restored at once: {RESTORES}")


def plan_restore(
    body: dict[str, Any], backup: BackupDocument, *, now: float, new_id: Callable[[], str]
) -> TableDocument:
    """Check a RestoreTableFromBackup request and return the new table's document.

    It has the source's keys, indexes, capacity, encryption and class, but not its tags, time to
    live, stream, policies and protection. Source: API_RestoreTableFromBackup.

    Args:
        body: the request, its shape already validated.
        backup: the backup.
        now: seconds since 1970.
        new_id: makes a UUID for the table and each index.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
    """
    source = backup.table
    billing = body.get("BillingModeOverride", source.billing)
    given = body.get("ProvisionedThroughputOverride")
    if given is None and billing == source.billing:
        throughput = source.throughput
    else:
        throughputs.check_billing(billing, given)
        throughput = throughputs.parse_throughput(given)
    on_demand = source.on_demand if billing == PAY_PER_REQUEST else None
    on_demand = throughputs.parse_on_demand(
        body.get("OnDemandThroughputOverride"), billing, on_demand
    )
    encrypted, encryption_key = source.encrypted, source.encryption_key
    if "SSESpecificationOverride" in body:
        encrypted, encryption_key = table_settings.parse_encryption(
            body["SSESpecificationOverride"]
        )
    indexes = (*_local(body, source, new_id), *_global(body, source, billing, new_id))
    used = {key.name for keys in (source.keys, *(i.keys for i in indexes)) for key in keys}
    return TableDocument.model_validate(
        {
            "name": body["TargetTableName"],
            "id": new_id(),
            "region": source.region,
            "account": source.account,
            "created": now,
            "status": "CREATING",
            "attributes": {n: kind for n, kind in source.attributes.items() if n in used},
            "keys": source.keys,
            "billing": billing,
            "billing_named": source.billing_named or billing == PAY_PER_REQUEST,
            "on_demand_since": now if billing == PAY_PER_REQUEST else None,
            "throughput": _fresh(throughput),
            "on_demand": on_demand,
            "warm": source.warm,
            "indexes": indexes,
            "table_class": source.table_class,
            "encrypted": encrypted,
            "encryption_key": encryption_key,
            "restore": Restore(backup=backup.arn, source=source.arn, at=now, in_progress=True),
        }
    )


def finish_restore(document: TableDocument) -> TableDocument:
    """Return what the document of a table is once all its items are there."""
    assert document.restore is not None
    done = document.restore.model_copy(update={"in_progress": False})
    return document.model_copy(update={"status": ACTIVE, "restore": done})


def _local(
    body: dict[str, Any], source: TableDocument, new_id: Callable[[], str]
) -> list[IndexDocument]:
    found = _there(source, "LOCAL")
    if _LOCAL not in body:
        return [_anew(index, new_id) for index in found]
    raw = body[_LOCAL]
    wanted = (
        index_definitions.parse_local(raw, source.keys, dict(source.attributes), new_id)
        if raw
        else []
    )
    _check_same(wanted, found)
    return wanted


def _global(
    body: dict[str, Any], source: TableDocument, billing: str, new_id: Callable[[], str]
) -> list[IndexDocument]:
    found = {index.name: index for index in _there(source, "GLOBAL")}
    if _GLOBAL not in body:
        if billing == PAY_PER_REQUEST:
            none = {"throughput": Throughput()}
            return [_anew(index, new_id).model_copy(update=none) for index in found.values()]
        for index in found.values():
            if not index.throughput.read_units:
                raise ValidationError(
                    f"{INVALID}ProvisionedThroughput must be specified for index: {index.name}"
                )
        unlimited = {"on_demand": None}
        return [_anew(index, new_id).model_copy(update=unlimited) for index in found.values()]
    raw = [_with_units(entry, found, billing) for entry in body[_GLOBAL]]
    wanted = (
        index_definitions.parse_global(raw, dict(source.attributes), billing, new_id) if raw else []
    )
    _check_same(wanted, list(found.values()))
    return wanted


def _there(source: TableDocument, scope: str) -> list[IndexDocument]:
    """Return the indexes of a kind, but for those that were on their way out."""
    return [i for i in source.indexes if i.scope == scope and i.status != DELETING]


def _with_units(
    entry: dict[str, Any], found: dict[str, IndexDocument], billing: str
) -> dict[str, Any]:
    """Return an override with the capacity that the index had, where it says nothing of it."""
    index = found.get(entry["IndexName"])
    if (
        billing == PAY_PER_REQUEST
        or _THROUGHPUT in entry
        or index is None
        or not index.throughput.read_units
    ):
        return entry
    units = index.throughput
    kept = {"ReadCapacityUnits": units.read_units, "WriteCapacityUnits": units.write_units}
    return {**entry, _THROUGHPUT: kept}


def _check_same(wanted: Sequence[IndexDocument], found: Sequence[IndexDocument]) -> None:
    """Indexes may be left out, but none is added and none is another.

    Raises:
        ValidationError: one is.
    """
    known = {index.name: index for index in found}
    for index in wanted:
        there = known.get(index.name)
        if (
            there is None
            or there.keys != index.keys
            or there.projection.kind != index.projection.kind
            or set(there.projection.attributes) != set(index.projection.attributes)
        ):
            raise ValidationError(
                f"{INVALID}The index {index.name} does not match an index of the backup's table"
            )


def _anew(index: IndexDocument, new_id: Callable[[], str]) -> IndexDocument:
    """Return an index as one of a new table."""
    return index.model_copy(
        update={
            "id": new_id(),
            "status": ACTIVE,
            "backfilling": False,
            "throughput": _fresh(index.throughput),
            "insights": False,
        }
    )


def _fresh(throughput: Throughput) -> Throughput:
    """Return capacity without the history of its changes."""
    return Throughput(read_units=throughput.read_units, write_units=throughput.write_units)
