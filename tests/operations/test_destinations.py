"""EnableKinesisStreamingDestination and its siblings, as far as no change is copied."""

from typing import Any

import pytest

from streamtable.core.errors import ResourceInUse, ResourceNotFound, ValidationError

ARN = "arn:aws:kinesis:eu-central-1:000000000000:stream/changes"
OTHER = "arn:aws:kinesis:eu-central-1:000000000000:stream/others"
NAMES = {"TableName": "users", "StreamArn": ARN}


@pytest.fixture
async def service(service):
    await service.table()
    return service


async def refusal(service, kind, operation, **body):
    with pytest.raises(kind) as refused:
        await service(operation, **body)
    return refused.value.message


async def set_status(service, status):
    """Do what the copy does when it has come so far."""
    document = service.catalog.table("users").document
    destination = document.destinations[-1].model_copy(update={"status": status})
    await service.catalog.update(document.with_destination(destination))


async def described(service):
    answer = await service("DescribeKinesisStreamingDestination", TableName="users")
    assert answer["TableName"] == "users"
    return answer["KinesisDataStreamDestinations"]


async def test_a_destination_through_its_states(service):
    assert await described(service) == []
    configuration = {"ApproximateCreationDateTimePrecision": "MICROSECOND"}
    answer = await service(
        "EnableKinesisStreamingDestination",
        **NAMES,
        EnableKinesisStreamingConfiguration=configuration,
    )
    assert answer == {
        **NAMES,
        "DestinationStatus": "ENABLING",
        "EnableKinesisStreamingConfiguration": configuration,
    }
    shown = {"StreamArn": ARN, "ApproximateCreationDateTimePrecision": "MICROSECOND"}
    assert await described(service) == [{**shown, "DestinationStatus": "ENABLING"}]
    await set_status(service, "ACTIVE")
    configuration = {"ApproximateCreationDateTimePrecision": "MILLISECOND"}
    answer = await service(
        "UpdateKinesisStreamingDestination",
        **NAMES,
        UpdateKinesisStreamingConfiguration=configuration,
    )
    assert answer == {
        **NAMES,
        "DestinationStatus": "UPDATING",
        "UpdateKinesisStreamingConfiguration": configuration,
    }
    shown["ApproximateCreationDateTimePrecision"] = "MILLISECOND"
    assert await described(service) == [{**shown, "DestinationStatus": "ACTIVE"}]
    answer = await service("DisableKinesisStreamingDestination", **NAMES)
    assert answer == {**NAMES, "DestinationStatus": "DISABLING"}
    await set_status(service, "DISABLED")
    assert await described(service) == [{**shown, "DestinationStatus": "DISABLED"}]
    await service("EnableKinesisStreamingDestination", **NAMES)
    assert await described(service) == [{**shown, "DestinationStatus": "ENABLING"}]


async def test_one_is_on_at_a_time_and_those_before_it_are_remembered(service):
    await service("EnableKinesisStreamingDestination", **NAMES)
    for arn in (ARN, OTHER):
        message = await refusal(
            service,
            ResourceInUse,
            "EnableKinesisStreamingDestination",
            TableName="users",
            StreamArn=arn,
        )
        assert "must be DISABLED or ENABLE_FAILED to perform ENABLE operation" in message
    await set_status(service, "ENABLE_FAILED")
    await service("EnableKinesisStreamingDestination", TableName="users", StreamArn=OTHER)
    assert [each["StreamArn"] for each in await described(service)] == [ARN, OTHER]


async def test_what_can_not_be_changed(service):
    for operation in ("DisableKinesisStreamingDestination", "UpdateKinesisStreamingDestination"):
        body: dict[str, Any] = {**NAMES}
        if operation.startswith("Update"):
            body["UpdateKinesisStreamingConfiguration"] = {
                "ApproximateCreationDateTimePrecision": "MILLISECOND"
            }
        message = await refusal(service, ResourceNotFound, operation, **body)
        assert f"No streaming destination with streamArn: {ARN}" in message
    await service("EnableKinesisStreamingDestination", **NAMES)
    message = await refusal(service, ValidationError, "DisableKinesisStreamingDestination", **NAMES)
    assert "must be ACTIVE to perform DISABLE operation" in message
    await set_status(service, "ACTIVE")
    message = await refusal(service, ValidationError, "UpdateKinesisStreamingDestination", **NAMES)
    assert "UpdateKinesisStreamingConfiguration cannot be null" in message
    message = await refusal(
        service,
        ValidationError,
        "UpdateKinesisStreamingDestination",
        **NAMES,
        UpdateKinesisStreamingConfiguration={"ApproximateCreationDateTimePrecision": "MILLISECOND"},
    )
    assert "already set to the desired value of MILLISECOND" in message


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:dynamodb:eu-central-1:000000000000:table/users",
        "arn:aws:kinesis:eu-central-1:000000000000:stream/",
        "arn:aws:kinesis:eu-central-1:0000000:stream/changes",
        f"{ARN}/consumer/someone",
    ],
)
async def test_an_arn_of_something_else(service, arn):
    message = await refusal(
        service,
        ValidationError,
        "EnableKinesisStreamingDestination",
        TableName="users",
        StreamArn=arn,
    )
    assert arn in message


async def test_a_table_that_is_not_there(service):
    for operation in (
        "DescribeKinesisStreamingDestination",
        "DisableKinesisStreamingDestination",
        "EnableKinesisStreamingDestination",
        "UpdateKinesisStreamingDestination",
    ):
        body = {"TableName": "nobodys"}
        if not operation.startswith("Describe"):
            body["StreamArn"] = ARN
        message = await refusal(service, ResourceNotFound, operation, **body)
        assert message == "Requested resource not found: Table: nobodys not found"
