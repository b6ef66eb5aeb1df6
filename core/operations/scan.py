"""Scan: every item of a table or an index, or of one segment of it."""

from collections.abc import Callable
from typing import Any, Final

from streamtable.core.errors import ValidationError
from streamtable.core.operations.conditions import plan_filter
from streamtable.core.operations.pages import Page
from streamtable.core.operations.ranges import Reading, ScanRange, check_start, start_schema
from streamtable.core.operations.selections import check_index, check_select, find_index
from streamtable.core.tables import Table

__all__ = ["plan_scan"]

_EXPRESSIONS: Final = ("ProjectionExpression", "FilterExpression")
_LEGACY: Final = ("AttributesToGet", "ScanFilter", "ConditionalOperator")
_INVALID_START: Final = "The provided starting key is invalid: "


def plan_scan(
    body: dict[str, Any], find: Callable[[str], Table], shards: int
) -> tuple[Reading, ScanRange]:
    """Check a Scan request; return what is read and where. Source: API_Scan.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.
        shards: number of shards.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    segment, segments = _segment(body)
    check_select(body)
    condition, projection, placeholders = plan_filter(body, _EXPRESSIONS, _LEGACY, "ScanFilter")
    placeholders.check_unused()
    check_start(body)
    table = find(body["TableName"])
    index = find_index(table, body)
    fetches = False
    if index is not None:
        fetches = check_index(index, body, None if projection is None else projection.paths)
    page = Page(
        limit=body.get("Limit"),
        condition=condition,
        projection=projection,
        counting=body.get("Select") == "COUNT",
    )
    reading = Reading(table, index, page, body, fetches=fetches)
    start = None
    if "ExclusiveStartKey" in body:
        try:
            start = start_schema(table, index).parse_key(body["ExclusiveStartKey"])
        except ValidationError as error:
            raise ValidationError(_INVALID_START + error.message) from None
    return reading, ScanRange(reading, shards, segment, segments, start)


def _segment(body: dict[str, Any]) -> tuple[int, int]:
    segment, segments = body.get("Segment"), body.get("TotalSegments")
    if segment is None and segments is None:
        return 0, 1
    if segments is None:
        raise ValidationError(
            "The TotalSegments parameter is required but was not present in the request when "
            "Segment parameter is present"
        )
    if segment is None:
        raise ValidationError(
            "The Segment parameter is required but was not present in the request when parameter "
            "TotalSegments is present"
        )
    if segment >= segments:
        raise ValidationError(
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: "
            f"Segment: {segment} is not less than TotalSegments: {segments}"
        )
    return segment, segments
