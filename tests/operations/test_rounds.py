"""Changes of one table that meet."""

import asyncio

from streamtable.core.errors import ResourceNotFound, ValidationError

ARN = "arn:aws:dynamodb:local:000000000000:table/users"


async def test_changes_that_go_together_are_all_made(service):
    await service.table()
    tags = [{"Key": f"k{number:02}", "Value": "v"} for number in range(10)]
    await asyncio.gather(
        *(service("TagResource", ResourceArn=ARN, Tags=[tag]) for tag in tags),
        service("UpdateTable", TableName="users", TableClass="STANDARD_INFREQUENT_ACCESS"),
    )
    assert (await service("ListTagsOfResource", ResourceArn=ARN))["Tags"] == tags
    table = (await service("DescribeTable", TableName="users"))["Table"]
    assert table["TableClassSummary"]["TableClass"] == "STANDARD_INFREQUENT_ACCESS"


async def test_a_change_that_comes_second_is_refused_for_its_own_reason(service):
    await service.table()
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    request = {"TableName": "users", "StreamSpecification": stream}
    answers = await asyncio.gather(
        *(service("UpdateTable", **request) for _ in range(3)), return_exceptions=True
    )
    refusals = [answer for answer in answers if isinstance(answer, ValidationError)]
    assert [str(refusal) for refusal in refusals] == [
        "Table already has an enabled stream: TableName: users"
    ] * 2


async def test_one_of_two_deletions_finds_nothing(service):
    await service.table()
    answers = await asyncio.gather(
        *(service("DeleteTable", TableName="users") for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(answer, ResourceNotFound) for answer in answers) == 1
    assert sum(isinstance(answer, dict) for answer in answers) == 1
