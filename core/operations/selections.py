"""Select, projection and index: what a Query or Scan may be asked to return."""

from collections.abc import Collection
from typing import Any

from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.tables import Index, Table

__all__ = ["check_index", "check_select", "find_index"]


# How the service names what was chosen.
_CHOSEN = {
    "ALL_ATTRIBUTES": "ALL_ATTRIBUTES",
    "ALL_PROJECTED_ATTRIBUTES": "ALL_PROJECTED_ATTRIBUTES",
    "COUNT": "only the Count",
}


def check_select(body: dict[str, Any]) -> None:
    """Check Select against the parameters that name attributes, without the table.

    Raises:
        ValidationError: they contradict each other.
    """
    select = body.get("Select")
    if select is None:
        return
    given = next((n for n in ("ProjectionExpression", "AttributesToGet") if n in body), None)
    if select == "SPECIFIC_ATTRIBUTES":
        if given is None:
            raise ValidationError(
                f"{INVALID}Must specify the AttributesToGet or ProjectionExpression when "
                "choosing to get SPECIFIC_ATTRIBUTES"
            )
    elif given is not None:
        raise ValidationError(
            f"{INVALID}Cannot specify the {given} when choosing to get {_CHOSEN[select]}"
        )
    if select == "ALL_PROJECTED_ATTRIBUTES" and "IndexName" not in body:
        raise ValidationError(
            f"{INVALID}ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName"
        )


def find_index(table: Table, body: dict[str, Any]) -> Index | None:
    """Return the index that the request names, None for the table itself.

    Raises:
        ValidationError: the table has no such index, or it can't be read in this way.
    """
    name = body.get("IndexName")
    if name is None:
        return None
    index = table.indexes.get(name)
    if index is None:
        raise ValidationError(f"The table does not have the specified index: {name}")
    if not index.active:
        raise ValidationError(f"Cannot read from backfilling global secondary index: {name}")
    if index.is_global and body.get("ConsistentRead"):
        raise ValidationError("Consistent reads are not supported on global secondary indexes")
    return index


def check_index(index: Index, body: dict[str, Any], wanted: Collection[str] | None) -> bool:
    """Check what is asked of an index; return whether the table's items are needed for it.

    A local index fetches from the table what it does not have, a global one can't.

    Args:
        index: the index that is read.
        body: the request.
        wanted: top-level attributes that the projection names, None without one.

    Raises:
        ValidationError: a global index does not have what is asked for.
    """
    if index.projected is None:
        return False
    if wanted is None:
        if body.get("Select") != "ALL_ATTRIBUTES":
            return False
        if index.is_global:
            raise ValidationError(
                f"{INVALID}Select type ALL_ATTRIBUTES is not supported for global secondary "
                f"index {index.name} because its projection type is not ALL"
            )
        return True
    missing = [name for name in sorted(wanted) if name not in index.projected]
    if missing and index.is_global:
        raise ValidationError(
            f"{INVALID}Global secondary index {index.name} does not project [{', '.join(missing)}]"
        )
    return bool(missing)
