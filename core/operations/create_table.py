"""CreateTable: from a request to the document of the table."""

from collections.abc import Callable
from typing import Any

from streamtable.core.compatibility import check_available
from streamtable.core.documents import (
    ACTIVE,
    CREATING,
    PAY_PER_REQUEST,
    PROVISIONED,
    IndexDocument,
    Policy,
    StreamDocument,
    TableDocument,
)
from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.operations import (
    index_definitions,
    key_schemas,
    policies,
    table_settings,
    throughputs,
)
from streamtable.core.operations.table_settings import check_named

__all__ = ["plan_create_table"]


def plan_create_table(
    body: dict[str, Any],
    *,
    region: str,
    account: str,
    now: float,
    delay_s: float,
    new_id: Callable[[], str],
) -> TableDocument:
    """Check a CreateTable request and return the new table's document.

    Whether the name is taken is the catalog's to say. Source: API_CreateTable.

    Args:
        body: the request, its shape already validated.
        region: part of the table's ARN.
        account: part of the table's ARN.
        now: seconds since 1970.
        delay_s: how long the table stays in the status CREATING.
        new_id: makes a UUID for the table and each index.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
    """
    check_available("CreateTable", body)
    _check_required(body)
    billing = body.get("BillingMode", PROVISIONED)
    throughputs.check_billing(billing, body.get("ProvisionedThroughput"))
    throughput = throughputs.parse_throughput(body.get("ProvisionedThroughput"))
    definitions = key_schemas.parse_definitions(body["AttributeDefinitions"])
    alone = "LocalSecondaryIndexes" not in body and "GlobalSecondaryIndexes" not in body
    keys = key_schemas.parse_table_keys(body["KeySchema"], definitions, alone=alone)
    indexes: list[IndexDocument] = []
    if "LocalSecondaryIndexes" in body:
        indexes += index_definitions.parse_local(
            body["LocalSecondaryIndexes"], keys, definitions, new_id
        )
    if "GlobalSecondaryIndexes" in body:
        indexes += index_definitions.parse_global(
            body["GlobalSecondaryIndexes"], definitions, billing, new_id
        )
    if not alone:
        index_definitions.check_names(indexes)
        used = {key.name for key in keys} | {key.name for i in indexes for key in i.keys}
        key_schemas.check_used(definitions, used)
    encrypted, encryption_key = table_settings.parse_encryption(body.get("SSESpecification"))
    stream = body.get("StreamSpecification")
    tags = table_settings.parse_tags(body.get("Tags", []))
    policy = body.get("ResourcePolicy")
    if policy is not None:
        policies.parse_policy(policy)
    on_demand = throughputs.parse_on_demand(body.get("OnDemandThroughput"), billing)
    _check_stream(stream)
    streams: tuple[StreamDocument, ...] = ()
    if stream is not None and stream["StreamEnabled"]:
        streams = (table_settings.new_stream(stream["StreamViewType"], now, ()),)
    return TableDocument.model_validate(
        {
            "name": body["TableName"],
            "id": new_id(),
            "region": region,
            "account": account,
            "created": now,
            "status": CREATING if delay_s else ACTIVE,
            "status_until": now + delay_s if delay_s else None,
            "attributes": definitions,
            "keys": keys,
            "billing": billing,
            "billing_named": billing == PAY_PER_REQUEST,
            "on_demand_since": now if billing == PAY_PER_REQUEST else None,
            "throughput": throughput,
            "on_demand": on_demand,
            "warm": throughputs.parse_warm(body.get("WarmThroughput")),
            "indexes": tuple(indexes),
            "streams": streams,
            "table_class": body.get("TableClass"),
            "deletion_protection": body.get("DeletionProtectionEnabled", False),
            "encrypted": encrypted,
            "encryption_key": encryption_key,
            "tags": tags,
            "policy": None if policy is None else Policy(text=policy, revision=new_id()),
        }
    )


def _check_required(body: dict[str, Any]) -> None:
    """Answer for members that the model leaves optional (they are, for a replica of a table)."""
    check_named(body)
    missing = [
        f"Value null at '{name[0].lower()}{name[1:]}' failed to satisfy constraint: "
        "Member must not be null"
        for name in ("AttributeDefinitions", "KeySchema")
        if name not in body
    ]
    if missing:
        errors = "error" if len(missing) == 1 else "errors"
        raise ValidationError(f"{len(missing)} validation {errors} detected: {'; '.join(missing)}")


def _check_stream(raw: dict[str, Any] | None) -> None:
    if raw is None:
        return
    if raw["StreamEnabled"] and "StreamViewType" not in raw:
        raise ValidationError(
            f"{INVALID}Table is being created with a stream enabled, UpdateViewType should be "
            "specified"
        )
    if not raw["StreamEnabled"] and "StreamViewType" in raw:
        raise ValidationError(
            f"{INVALID}Table is being created with a stream disabled, UpdateViewType should not "
            "be specified"
        )
