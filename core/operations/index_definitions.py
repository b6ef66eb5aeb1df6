"""Definitions of secondary indexes: the rules that CreateTable and UpdateTable share."""

from collections.abc import Callable, Iterable
from typing import Any

from streamtable.core.documents import ACTIVE, IndexDocument, KeyElement, Projection, Status
from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.limits import GLOBAL_INDEXES, LOCAL_INDEXES, NON_KEY_ATTRIBUTES
from streamtable.core.operations import key_schemas, throughputs

__all__ = ["check_names", "parse_global", "parse_local"]


def parse_local(
    raw: list[dict[str, Any]],
    table_keys: tuple[KeyElement, ...],
    definitions: dict[str, str],
    new_id: Callable[[], str],
) -> list[IndexDocument]:
    """Read LocalSecondaryIndexes.

    Raises:
        ValidationError: one of DynamoDB's rules for local indexes is broken.
    """
    if not raw:
        raise ValidationError(f"{INVALID}List of LocalSecondaryIndexes is empty")
    if len(table_keys) < 2:
        raise ValidationError(
            f"{INVALID}Table KeySchema does not have a range key, which is required when "
            "specifying a LocalSecondaryIndex"
        )
    if len(raw) > LOCAL_INDEXES:
        raise ValidationError(
            f"{INVALID}Number of LocalSecondaryIndexes exceeds per-table limit of {LOCAL_INDEXES}"
        )
    indexes = []
    for entry in raw:
        name = entry["IndexName"]
        keys = key_schemas.parse_index_keys(entry["KeySchema"], definitions, composite=False)
        if len(keys) < 2:
            raise ValidationError(
                f"{INVALID}Index KeySchema does not have a range key for index: {name}"
            )
        if keys[0].name != table_keys[0].name:
            raise ValidationError(
                f"{INVALID}Index KeySchema does not have the same leading hash key as table "
                f"KeySchema for index: {name}. index hash key: {keys[0].name}, table hash key: "
                f"{table_keys[0].name}"
            )
        indexes.append(
            IndexDocument(
                name=name,
                id=new_id(),
                scope="LOCAL",
                keys=keys,
                projection=_parse_projection(entry["Projection"]),
            )
        )
    check_names(indexes)
    return indexes


def parse_global(
    raw: list[dict[str, Any]],
    definitions: dict[str, str],
    billing: str,
    new_id: Callable[[], str],
    *,
    status: Status = ACTIVE,
) -> list[IndexDocument]:
    """Read GlobalSecondaryIndexes, or the Create of a GlobalSecondaryIndexUpdates.

    Raises:
        ValidationError: one of DynamoDB's rules for global indexes is broken.
    """
    if not raw:
        raise ValidationError(f"{INVALID}List of GlobalSecondaryIndexes is empty")
    if len(raw) > GLOBAL_INDEXES:
        raise ValidationError(
            f"{INVALID}GlobalSecondaryIndex count exceeds the per-table limit of {GLOBAL_INDEXES}"
        )
    indexes = []
    for entry in raw:
        throughput = throughputs.parse_index_throughput(entry, billing)
        keys = key_schemas.parse_index_keys(entry["KeySchema"], definitions, composite=True)
        indexes.append(
            IndexDocument(
                name=entry["IndexName"],
                id=new_id(),
                scope="GLOBAL",
                keys=keys,
                projection=_parse_projection(entry["Projection"]),
                status=status,
                throughput=throughput,
                on_demand=throughputs.parse_on_demand(entry.get("OnDemandThroughput"), billing),
                warm=throughputs.parse_warm(entry.get("WarmThroughput")),
            )
        )
    check_names(indexes)
    return indexes


def check_names(indexes: Iterable[IndexDocument]) -> None:
    """Check that all indexes of a table fit together.

    Raises:
        ValidationError: a name is used twice, or too many attributes are projected.
    """
    seen: set[str] = set()
    projected = 0
    for index in indexes:
        if index.name in seen:
            raise ValidationError(f"{INVALID}Duplicate index name: {index.name}")
        seen.add(index.name)
        projected += len(index.projection.attributes)
    if projected > NON_KEY_ATTRIBUTES:
        raise ValidationError(
            f"{INVALID}Number of NonKeyAttributes in all indexes exceeds the per-table limit of "
            f"{NON_KEY_ATTRIBUTES}"
        )


def _parse_projection(raw: dict[str, Any]) -> Projection:
    kind = raw.get("ProjectionType")
    attributes = raw.get("NonKeyAttributes")
    if kind is None:
        raise ValidationError(f"{INVALID}Unknown ProjectionType: null")
    if kind == "INCLUDE" and attributes is None:
        raise ValidationError(
            f"{INVALID}ProjectionType is INCLUDE, but NonKeyAttributes is not specified"
        )
    if kind != "INCLUDE" and attributes is not None:
        raise ValidationError(
            f"{INVALID}ProjectionType is {kind}, but NonKeyAttributes is specified"
        )
    names = attributes or ()
    if len(set(names)) != len(names):
        raise ValidationError(f"{INVALID}Duplicate member in NonKeyAttributes")
    return Projection(kind=kind, attributes=tuple(names))
