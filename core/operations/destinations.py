"""A table's Kinesis destinations: where its changes are copied, and in what state the copy is.

The API names a Kinesis data stream. Here the changes go to a Kafka topic of the table's own; the
ARN that was given names the destination in every answer, and nothing is sent to it.
"""

import re
from typing import Any, Final, Literal, cast

from streamtable.core.documents import DestinationDocument, TableDocument
from streamtable.core.errors import ResourceInUse, ResourceNotFound, ValidationError

__all__ = [
    "describe_destinations",
    "destination_answer",
    "plan_disable",
    "plan_enable",
    "plan_update",
]

# Source: the Kinesis API reference, StreamARN and StreamName.
_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:kinesis:[a-z0-9-]+:[0-9]{12}:stream/[a-zA-Z0-9_.-]{1,128}"
)
_PRECISION: Final = "ApproximateCreationDateTimePrecision"
_ENDED: Final = ("DISABLED", "ENABLE_FAILED")
# Of destinations that have ended so many are remembered.
_KEPT: Final = 10

Precision = Literal["MILLISECOND", "MICROSECOND"]


def describe_destinations(document: TableDocument) -> dict[str, Any]:
    """Return the answer to DescribeKinesisStreamingDestination, the newest destination last."""
    found = []
    for destination in document.destinations:
        shown = {
            "StreamArn": destination.stream_arn,
            "DestinationStatus": destination.status,
            _PRECISION: destination.precision,
        }
        if destination.reason is not None:
            shown["DestinationStatusDescription"] = destination.reason
        found.append(shown)
    return {"TableName": document.name, "KinesisDataStreamDestinations": found}


def destination_answer(document: TableDocument, stream_arn: str, status: str) -> dict[str, Any]:
    """Return what the answers to Enable, Disable and Update have in common."""
    return {"TableName": document.name, "StreamArn": stream_arn, "DestinationStatus": status}


def plan_enable(
    body: dict[str, Any], document: TableDocument, destination_id: str, now_ms: int
) -> TableDocument:
    """Check an EnableKinesisStreamingDestination request; return the table's next document.

    A table has one destination at a time that is on.

    Args:
        body: the request.
        document: the table.
        destination_id: for the new destination; one that is enabled again has another one.
        now_ms: changes that are accepted from now on are copied.

    Raises:
        ResourceInUse: a destination is on, or the table is not ACTIVE.
        ValidationError: the ARN is not a Kinesis stream's.
    """
    arn = _arn(body)
    _check_serving(document)
    if any(each.status not in _ENDED for each in document.destinations):
        raise ResourceInUse(
            "Table is not in a valid state to enable Kinesis Streaming Destination: "
            "EnableKinesisStreamingDestination must be DISABLED or ENABLE_FAILED to perform "
            "ENABLE operation."
        )
    precision = body.get("EnableKinesisStreamingConfiguration", {}).get(_PRECISION)
    destination = DestinationDocument(
        id=destination_id,
        stream_arn=arn,
        status="ENABLING",
        precision=precision or "MILLISECOND",
        enabled_ms=now_ms,
    )
    others = [each for each in document.destinations if each.stream_arn != arn]
    return document.model_copy(update={"destinations": (*others[-_KEPT:], destination)})


def plan_disable(body: dict[str, Any], document: TableDocument, now_ms: int) -> TableDocument:
    """Check a DisableKinesisStreamingDestination request; return the table's next document.

    Raises:
        ResourceInUse: the table is not ACTIVE.
        ResourceNotFound: the table has no such destination.
        ValidationError: the ARN is not a Kinesis stream's, or the destination is not ACTIVE.
    """
    arn = _arn(body)
    _check_serving(document)
    destination = _find(document, arn)
    if destination.status != "ACTIVE":
        raise ValidationError(
            "Table is not in a valid state to disable Kinesis Streaming Destination: "
            "DisableKinesisStreamingDestination must be ACTIVE to perform DISABLE operation."
        )
    changed = destination.model_copy(update={"status": "DISABLING", "disabled_ms": now_ms})
    return document.with_destination(changed)


def plan_update(body: dict[str, Any], document: TableDocument) -> TableDocument:
    """Check an UpdateKinesisStreamingDestination request; return the table's next document.

    Raises:
        ResourceInUse: the table is not ACTIVE.
        ResourceNotFound: the table has no such destination.
        ValidationError: the ARN is not a Kinesis stream's, the destination is not ACTIVE, or
            nothing would change.
    """
    arn = _arn(body)
    _check_serving(document)
    precision = body.get("UpdateKinesisStreamingConfiguration", {}).get(_PRECISION)
    if precision is None:
        raise ValidationError(
            "Streaming destination cannot be updated with given parameters: "
            "UpdateKinesisStreamingConfiguration cannot be null or contain only null values"
        )
    destination = _find(document, arn)
    if destination.status != "ACTIVE":
        raise ValidationError(
            "Table is not in a valid state to update Kinesis Streaming Destination: "
            "UpdateKinesisStreamingDestination must be ACTIVE to perform UPDATE operation."
        )
    if destination.precision == precision:
        raise ValidationError(
            f"Invalid Request: Precision is already set to the desired value of {precision} for "
            f"tableId: {document.id}, kdsArn: {arn}"
        )
    changed = destination.model_copy(update={"precision": cast("Precision", precision)})
    return document.with_destination(changed)


def _arn(body: dict[str, Any]) -> str:
    arn: str = body["StreamArn"]
    if _ARN.fullmatch(arn) is None:
        raise ValidationError(f"Invalid StreamArn: {arn} is not the ARN of a Kinesis data stream")
    return arn


def _check_serving(document: TableDocument) -> None:
    if document.status in ("CREATING", "DELETING"):
        state = "created" if document.status == "CREATING" else "deleted"
        raise ResourceInUse(
            "Attempt to change a resource which is still in use: Table is being "
            f"{state}: {document.name}"
        )


def _find(document: TableDocument, arn: str) -> DestinationDocument:
    for destination in document.destinations:
        if destination.stream_arn == arn:
            return destination
    raise ResourceNotFound(
        f"Requested resource not found: No streaming destination with streamArn: {arn} found for "
        f"table with tableName: {document.name}"
    )
