"""GlobalSecondaryIndexUpdates of UpdateTable: create, update and delete indexes of a live table."""

from collections.abc import Callable, Iterable
from typing import Any

from streamtable.core.documents import (
    ACTIVE,
    CREATING,
    DELETING,
    IndexDocument,
    TableDocument,
)
from streamtable.core.errors import (
    INVALID,
    LimitExceeded,
    ResourceInUse,
    ResourceNotFound,
    ValidationError,
)
from streamtable.core.operations import index_definitions, key_schemas, throughputs

__all__ = ["finish_index", "plan_index_updates"]


def plan_index_updates(
    body: dict[str, Any], document: TableDocument, now: float, new_id: Callable[[], str]
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
        if not update:
            raise ValidationError(
                f"{INVALID}One of GlobalSecondaryIndexUpdate.Update, "
                "GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete must not be "
                "null"
            )
        if len(update) != 1:
            raise ValidationError(
                f"{INVALID}Only one of GlobalSecondaryIndexUpdate.Update, "
                "GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete may be "
                "specified"
            )
        action, raw = next(iter(update.items()))
        name = raw["IndexName"]
        if name in named:
            raise ValidationError(
                f"{INVALID}Only one global secondary index update per index is allowed "
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
                raise ResourceNotFound("Requested resource not found")
            if action == "Update":
                indexes[name] = _update(raw, index, billing, now)
            else:
                gone = {"status": DELETING, "backfilling": False}
                indexes[name] = index.model_copy(update=gone)
    # Only an index that is being filled can be given up meanwhile.
    given_up = {
        i.name for i in document.indexes if i.backfilling and indexes[i.name].status == DELETING
    }
    changing = {i.name for i in document.indexes if i.status != ACTIVE}
    if online > 1 or (online and changing - given_up):
        raise LimitExceeded(
            "Subscriber limit exceeded: Only 1 online index can be created or deleted "
            "simultaneously per table"
        )
    key_schemas.check_used(attributes, _used(document, indexes.values()))
    index_definitions.check_names(indexes.values())
    return {"indexes": tuple(indexes.values()), "attributes": attributes}


def finish_index(document: TableDocument, name: str) -> TableDocument:
    """Return the document once an index's change is done: it is filled, or its rows are gone.

    An index that was CREATING is ACTIVE then, one that was DELETING is no more, nor are the
    attribute definitions that only it used.
    """
    indexes = []
    for index in document.indexes:
        if index.name != name:
            indexes.append(index)
        elif index.status != DELETING:
            indexes.append(index.model_copy(update={"status": ACTIVE, "backfilling": False}))
    used = _used(document, indexes)
    attributes = {key: kind for key, kind in document.attributes.items() if key in used}
    return document.model_copy(update={"indexes": tuple(indexes), "attributes": attributes})


def _used(document: TableDocument, indexes: Iterable[IndexDocument]) -> set[str]:
    names = {key.name for key in document.keys}
    return names.union(key.name for index in indexes for key in index.keys)


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
            f"{INVALID}Attempting to create an index which already exists. Index: {name}"
        )
    definitions = _definitions(body)
    for attribute, kind in definitions.items():
        if document.attributes.get(attribute, kind) != kind:
            raise ValidationError(
                f"{INVALID}Attribute {attribute} is already defined as type "
                f"{document.attributes[attribute]}"
            )
    (index,) = index_definitions.parse_global([raw], definitions, billing, new_id, status=CREATING)
    return index.model_copy(update={"backfilling": True})


def _update(raw: dict[str, Any], index: IndexDocument, billing: str, now: float) -> IndexDocument:
    if index.status != ACTIVE:
        raise ResourceInUse(
            "Attempt to change a resource which is still in use: Index is being "
            f"{'deleted' if index.status == DELETING else 'created'}: {index.name}"
        )
    changes: dict[str, Any] = {}
    if "ProvisionedThroughput" in raw:
        old, new = index.throughput, throughputs.parse_index_throughput(raw, billing)
        if (old.read_units, old.write_units) == (new.read_units, new.write_units):
            raise ValidationError(
                f"The provisioned throughput for the index {index.name} will not change. The "
                "requested value equals the current value. Current ReadCapacityUnits provisioned "
                f"for the index: {old.read_units}. Requested ReadCapacityUnits: {new.read_units}. "
                f"Current WriteCapacityUnits provisioned for the index: {old.write_units}. "
                f"Requested WriteCapacityUnits: {new.write_units}. Refer to the Amazon DynamoDB "
                "Developer Guide for current limits and how to request higher limits."
            )
        changes["throughput"] = throughputs.next_throughput(old, new, now)
    if "OnDemandThroughput" in raw:
        changes["on_demand"] = throughputs.parse_on_demand(
            raw["OnDemandThroughput"], billing, index.on_demand
        )
    if "WarmThroughput" in raw:
        changes["warm"] = throughputs.parse_warm(raw["WarmThroughput"], index.warm)
    return index.model_copy(update=changes)


def _definitions(body: dict[str, Any]) -> dict[str, str]:
    return key_schemas.parse_definitions(body.get("AttributeDefinitions", []))
