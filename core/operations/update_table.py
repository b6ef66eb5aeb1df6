"""UpdateTable: from a request and a table's document to its next document."""

from collections.abc import Callable
from typing import Any

from streamtable.core.compatibility import check_available
from streamtable.core.documents import (
    ACTIVE,
    PAY_PER_REQUEST,
    PROVISIONED,
    UPDATING,
    IndexDocument,
    StreamDocument,
    TableDocument,
    Throughput,
)
from streamtable.core.errors import INVALID, ResourceInUse, ValidationError
from streamtable.core.limits import STREAM_KEPT_S
from streamtable.core.operations import table_settings, throughputs
from streamtable.core.operations.index_updates import plan_index_updates

__all__ = ["check_changeable", "check_unprotected", "check_update_table", "plan_update_table"]


_CHANGES = (
    "ProvisionedThroughput",
    "BillingMode",
    "StreamSpecification",
    "GlobalSecondaryIndexUpdates",
    "SSESpecification",
    "TableClass",
    "DeletionProtectionEnabled",
    "OnDemandThroughput",
    "WarmThroughput",
)
_STATES = {"CREATING": "created", "UPDATING": "updated", "DELETING": "deleted"}


def check_changeable(document: TableDocument) -> None:
    """Check that no other change of the table is under way.

    Raises:
        ResourceInUse: the table's status is not ACTIVE.
    """
    if document.status != ACTIVE:
        raise ResourceInUse(
            "Attempt to change a resource which is still in use: Table is being "
            f"{_STATES[document.status]}: {document.name}"
        )


def check_unprotected(document: TableDocument) -> None:
    """Check that a table may be deleted.

    Raises:
        ValidationError: it is protected against that.
    """
    if document.deletion_protection:
        raise ValidationError(
            "Resource cannot be deleted as it is currently protected against deletion. "
            "Disable deletion protection first."
        )


def check_update_table(body: dict[str, Any]) -> None:
    """Check what can be checked of an UpdateTable request without the table.

    Raises:
        ValidationError: one of DynamoDB's rules is broken, or nothing is asked for.
    """
    check_available("UpdateTable", body)
    # An empty list of index updates asks for nothing.
    if not any(body.get(name, []) != [] for name in _CHANGES):
        raise ValidationError(
            "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, "
            "GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required"
        )
    if body.get("BillingMode") == PAY_PER_REQUEST:
        throughputs.check_billing(PAY_PER_REQUEST, body.get("ProvisionedThroughput"))
    throughputs.parse_throughput(body.get("ProvisionedThroughput"))


def plan_update_table(
    body: dict[str, Any],
    document: TableDocument,
    *,
    now: float,
    delay_s: float,
    new_id: Callable[[], str],
) -> TableDocument:
    """Check an UpdateTable request against the table and return its next document.

    Run `check_update_table` before the table is looked up. Source: API_UpdateTable.

    Args:
        body: the request, its shape already validated.
        document: the table as it is.
        now: seconds since 1970.
        delay_s: how long the table stays in the status UPDATING.
        new_id: makes a UUID for a new index.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceInUse: another change is under way.
    """
    check_changeable(document)
    changes: dict[str, Any] = {}
    if "GlobalSecondaryIndexUpdates" in body:
        changes.update(plan_index_updates(body, document, now, new_id))
    _change_billing(body, document, now, changes)
    if "StreamSpecification" in body:
        changes["streams"] = _change_stream(body["StreamSpecification"], document, now)
    if "SSESpecification" in body:
        encrypted, key = table_settings.parse_encryption(body["SSESpecification"])
        changes.update(encrypted=encrypted, encryption_key=key)
    if "TableClass" in body:
        changes.update(table_class=body["TableClass"], table_class_changed=now)
    if "DeletionProtectionEnabled" in body:
        changes["deletion_protection"] = body["DeletionProtectionEnabled"]
    if "OnDemandThroughput" in body:
        changes["on_demand"] = throughputs.parse_on_demand(
            body["OnDemandThroughput"],
            body.get("BillingMode", document.billing),
            document.on_demand,
        )
    if "WarmThroughput" in body:
        changes["warm"] = throughputs.parse_warm(body["WarmThroughput"], document.warm)
    if delay_s:
        changes.update(status=UPDATING, status_until=now + delay_s)
    return document.model_copy(update=changes)


def _change_billing(
    body: dict[str, Any], document: TableDocument, now: float, changes: dict[str, Any]
) -> None:
    billing = body.get("BillingMode", document.billing)
    raw = body.get("ProvisionedThroughput")
    if billing != document.billing:
        throughputs.check_billing(billing, raw)
        changes.update(billing=billing, billing_named=True)
        indexes: tuple[IndexDocument, ...] = changes.get("indexes", document.indexes)
        if billing == PAY_PER_REQUEST:
            changes.update(on_demand_since=now, throughput=Throughput())
            none = {"throughput": Throughput()}
            changes["indexes"] = tuple(index.model_copy(update=none) for index in indexes)
            return
        for index in indexes:
            if index.scope == "GLOBAL" and not index.throughput.read_units:
                raise ValidationError(
                    f"{INVALID}ProvisionedThroughput must be specified for index: {index.name}"
                )
        changes["on_demand"] = None
        unlimited = {"on_demand": None}
        changes["indexes"] = tuple(index.model_copy(update=unlimited) for index in indexes)
    elif raw is not None and billing == PAY_PER_REQUEST:
        throughputs.check_billing(billing, raw)
    if raw is None:
        return
    old, new = document.throughput, throughputs.parse_throughput(raw)
    same = (old.read_units, old.write_units) == (new.read_units, new.write_units)
    if same and document.billing == PROVISIONED:
        raise ValidationError(
            "The provisioned throughput for the table will not change. The requested value "
            f"equals the current value. Current ReadCapacityUnits provisioned for the table: "
            f"{old.read_units}. Requested ReadCapacityUnits: {new.read_units}. Current "
            f"WriteCapacityUnits provisioned for the table: {old.write_units}. Requested "
            f"WriteCapacityUnits: {new.write_units}. Refer to the Amazon DynamoDB Developer Guide "
            "for current limits and how to request higher limits."
        )
    changes["throughput"] = throughputs.next_throughput(old, new, now)


def _change_stream(
    raw: dict[str, Any], document: TableDocument, now: float
) -> tuple[StreamDocument, ...]:
    current = document.stream
    streams = tuple(
        stream
        for stream in document.streams
        if stream.disabled is None or now - stream.disabled < STREAM_KEPT_S
    )
    if raw["StreamEnabled"]:
        if "StreamViewType" not in raw:
            raise ValidationError(
                f"{INVALID}Table is being updated with a stream enabled, UpdateViewType should "
                "be specified"
            )
        if current is not None:
            raise ValidationError(
                f"Table already has an enabled stream: TableName: {document.name}"
            )
        return (
            *streams,
            table_settings.new_stream(raw["StreamViewType"], now, document.streams),
        )
    if "StreamViewType" in raw:
        raise ValidationError(
            f"{INVALID}Table is being updated with a stream disabled, UpdateViewType should not "
            "be specified"
        )
    if current is None:
        raise ValidationError(f"Table doesn't have a stream to disable: TableName: {document.name}")
    return (*streams[:-1], current.model_copy(update={"disabled": now}))
