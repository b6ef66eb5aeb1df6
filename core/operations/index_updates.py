"""GlobalSecondaryIndexUpdates of UpdateTable: create, update and delete indexes of a live table."""

from collections.abc import Callable
from typing import Any

from streamtable.core.documents import (
    CREATING,
    DELETING,
    IndexDocument,
    TableDocument,
)
from streamtable.core.errors import LimitExceeded, ResourceNotFound, ValidationError
from streamtable.core.operations import index_definitions, key_schemas, throughputs

__all__ = ["plan_index_updates"]

_INVALID = "One or more parameter values were invalid: "


def plan_index_updates(
    body: dict[str, Any], document: TableDocument, new_id: Callable[[], str]
) -> dict[str, Any]:
    """Return what GlobalSecondaryIndexUpdates changes in the table's document.

    A new index has the status CREATING and `backfilling`, a deleted one DELETING; whoever
    materializes the index moves it on from there.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        LimitExceeded: more than one index is created or deleted at once.
        ResourceNotFound: an index to be changed does not exist.
    """
    updates = body["GlobalSecondaryIndexUpdates"]
    online = 0
    named: set[str] = set()
    indexes = {index.name: index for index in document.indexes}
    attributes: dict[str, str] = dict(document.attributes)
    billing = body.get("BillingMode", document.billing)
    for update in updates:
        if len(update) != 1:
            raise ValidationError(
                f"{_INVALID}One of GlobalSecondaryIndexUpdate.Create, "
                "GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Delete must be "
                "specified, and only one"
            )
        action, raw = next(iter(update.items()))
        name = raw["IndexName"]
        if name in named:
            raise ValidationError(
                f"{_INVALID}Only one global secondary index update per index is allowed "
                f"simultaneously. Index: {name}"
            )
        named.add(name)
        online += action != "Update"
        if action == "Create":
            indexes[name] = _create(raw, body, document, billing, new_id)
            attributes.update(_definitions(body))
        else:
            index = indexes.get(name)
            if index is None or index.scope != "GLOBAL":
                raise ResourceNotFound(
                    "Requested resource not found"
                    if action == "Delete"
                    else f"{_INVALID}Index: {name} does not exist"
                )
            if action == "Update":
                indexes[name] = _update(raw, index, billing)
            else:
                indexes[name] = index.model_copy(update={"status": DELETING})
    if online > 1 or (online and any(i.status != "ACTIVE" for i in document.indexes)):
        raise LimitExceeded(
            "Subscriber limit exceeded: Only 1 online index can be created or deleted "
            "simultaneously per table"
        )
    index_definitions.check_names(indexes.values())
    return {"indexes": tuple(indexes.values()), "attributes": attributes}


def _create(
    raw: dict[str, Any],
    body: dict[str, Any],
    document: TableDocument,
    billing: str,
    new_id: Callable[[], str],
) -> IndexDocument:
    name = raw["IndexName"]
    if document.index(name) is not None:
        raise ValidationError(
            f"{_INVALID}Attempting to create an index which already exists. Index: {name}"
        )
    definitions = _definitions(body)
    for attribute, kind in definitions.items():
        if document.attributes.get(attribute, kind) != kind:
            raise ValidationError(
                f"{_INVALID}Attribute {attribute} is already defined as type "
                f"{document.attributes[attribute]}"
            )
    (index,) = index_definitions.parse_global([raw], definitions, billing, new_id, status=CREATING)
    return index.model_copy(update={"backfilling": True})


def _update(raw: dict[str, Any], index: IndexDocument, billing: str) -> IndexDocument:
    changes: dict[str, Any] = {}
    if "ProvisionedThroughput" in raw:
        changes["throughput"] = throughputs.parse_index_throughput(raw, billing)
    if "OnDemandThroughput" in raw:
        changes["on_demand"] = throughputs.parse_limits(raw["OnDemandThroughput"], "Max")
    if "WarmThroughput" in raw:
        changes["warm"] = throughputs.parse_limits(raw["WarmThroughput"], "")
    return index.model_copy(update=changes)


def _definitions(body: dict[str, Any]) -> dict[str, str]:
    return key_schemas.parse_definitions(body.get("AttributeDefinitions", []))
