from typing import Any

import pytest

from streamtable.core.errors import (
    AccessDenied,
    PolicyNotFound,
    ResourceNotFound,
    TableNotFound,
    ValidationError,
)

ARN = "arn:aws:dynamodb:local:000000000000:table/users"
POLICY = '{"Version":"2012-10-17","Statement":[]}'


async def refusal(service, operation, kind=ValidationError, **body):
    with pytest.raises(kind) as caught:
        await service(operation, **body)
    return caught.value.message


@pytest.fixture
async def service(service):
    await service.table()
    return service


class TestTags:
    async def test_tags_come_and_go(self, service):
        await service(
            "TagResource",
            ResourceArn=ARN,
            Tags=[{"Key": "team", "Value": "shop"}, {"Key": "stage", "Value": "test"}],
        )
        await service("TagResource", ResourceArn=ARN, Tags=[{"Key": "team", "Value": "mail"}])
        await service("UntagResource", ResourceArn=ARN, TagKeys=["stage", "none"])
        answer = await service("ListTagsOfResource", ResourceArn=ARN)
        assert answer == {"Tags": [{"Key": "team", "Value": "mail"}]}

    async def test_no_tags_at_all(self, service):
        message = await refusal(service, "TagResource", ResourceArn=ARN, Tags=[])
        assert message == "Atleast one Tag needs to be provided as Input."
        message = await refusal(service, "UntagResource", ResourceArn=ARN, TagKeys=[])
        assert message == "Atleast one Tag Key needs to be provided as Input."

    async def test_pages(self, service):
        tags = [{"Key": f"k{number:02}", "Value": "v"} for number in range(25)]
        await service("TagResource", ResourceArn=ARN, Tags=tags)
        found: list[Any] = []
        token: dict[str, Any] = {}
        while True:
            answer = await service("ListTagsOfResource", ResourceArn=ARN, **token)
            found += answer["Tags"]
            if "NextToken" not in answer:
                break
            token = {"NextToken": answer["NextToken"]}
        assert found == tags

    async def test_what_is_refused(self, service):
        message = await refusal(
            service, "ListTagsOfResource", ResourceNotFound, ResourceArn=ARN + "2"
        )
        assert message == f"Requested resource not found: ResourcArn: {ARN}2 not found"
        foreign = ARN.replace("local", "elsewhere")
        await refusal(service, "ListTagsOfResource", AccessDenied, ResourceArn=foreign)
        await refusal(service, "ListTagsOfResource", ResourceArn="users")
        await refusal(
            service,
            "TagResource",
            ResourceArn=ARN,
            Tags=[{"Key": str(number), "Value": ""} for number in range(51)],
        )
        await refusal(service, "TagResource", ResourceArn=ARN, Tags=[{"Key": "aws:x", "Value": ""}])


class TestPolicies:
    async def test_a_policy_comes_and_goes(self, service):
        put = await service("PutResourcePolicy", ResourceArn=ARN, Policy=POLICY)
        got = await service("GetResourcePolicy", ResourceArn=ARN)
        same = await service("PutResourcePolicy", ResourceArn=ARN, Policy=POLICY + " ")
        deleted = await service("DeleteResourcePolicy", ResourceArn=ARN)

        assert got == {"Policy": POLICY, "RevisionId": put["RevisionId"]}
        assert same == put
        assert deleted == put
        assert await service("DeleteResourcePolicy", ResourceArn=ARN) == {}
        await refusal(service, "GetResourcePolicy", PolicyNotFound, ResourceArn=ARN)

    async def test_revisions(self, service):
        await service(
            "PutResourcePolicy", ResourceArn=ARN, Policy=POLICY, ExpectedRevisionId="NO_POLICY"
        )
        for revision in ("NO_POLICY", "1"):
            await refusal(
                service,
                "PutResourcePolicy",
                PolicyNotFound,
                ResourceArn=ARN,
                Policy='{"Statement":[{}]}',
                ExpectedRevisionId=revision,
            )
        await refusal(
            service,
            "DeleteResourcePolicy",
            PolicyNotFound,
            ResourceArn=ARN,
            ExpectedRevisionId="1",
        )

    @pytest.mark.parametrize("policy", ["no JSON", "[]", '{"Statement":[]' + " " * 20_480 + "}"])
    async def test_what_is_no_policy(self, service, policy):
        await refusal(service, "PutResourcePolicy", ResourceArn=ARN, Policy=policy)
        with pytest.raises(ValidationError):
            await service.table("posts", ResourcePolicy=policy)

    async def test_a_missing_table(self, service):
        await refusal(service, "GetResourcePolicy", ResourceNotFound, ResourceArn=ARN + "2")


class TestTimeToLive:
    def request(self, enabled, attribute="until"):
        specification = {"Enabled": enabled, "AttributeName": attribute}
        return {"TableName": "users", "TimeToLiveSpecification": specification}

    async def test_on_and_off(self, service):
        request = self.request(enabled=True)
        answer = await service("UpdateTimeToLive", **request)
        assert answer == {"TimeToLiveSpecification": request["TimeToLiveSpecification"]}
        assert await service("DescribeTimeToLive", TableName="users") == {
            "TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "until"}
        }
        assert await refusal(service, "UpdateTimeToLive", **request) == (
            "TimeToLive is already enabled"
        )
        assert await refusal(
            service, "UpdateTimeToLive", **self.request(enabled=True, attribute="x")
        ) == ("TimeToLive is active on a different AttributeName: current AttributeName is until")
        await service("UpdateTimeToLive", **self.request(enabled=False))
        assert await service("DescribeTimeToLive", TableName="users") == {
            "TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}
        }
        assert (
            await refusal(service, "UpdateTimeToLive", **self.request(enabled=False))
            == "TimeToLive is already disabled"
        )


class TestService:
    async def test_limits_and_endpoints(self, service):
        limits = await service("DescribeLimits")
        assert limits["TableMaxReadCapacityUnits"] == 40_000
        (endpoint,) = (await service("DescribeEndpoints"))["Endpoints"]
        assert endpoint["Address"] == "127.0.0.1:8000"

    async def test_backups_are_off(self, service):
        answer = await service("DescribeContinuousBackups", TableName="users")
        description = answer["ContinuousBackupsDescription"]
        assert description["PointInTimeRecoveryDescription"] == {
            "PointInTimeRecoveryStatus": "DISABLED"
        }
        await refusal(service, "DescribeContinuousBackups", TableNotFound, TableName="none")

    async def test_contributor_insights(self, service):
        before = await service("DescribeContributorInsights", TableName="users")
        assert before["ContributorInsightsStatus"] == "DISABLED"
        answer = await service(
            "UpdateContributorInsights", TableName="users", ContributorInsightsAction="ENABLE"
        )
        assert answer["ContributorInsightsStatus"] == "ENABLING"
        after = await service("DescribeContributorInsights", TableName="users")
        assert after["ContributorInsightsStatus"] == "ENABLED"
        listed = await service("ListContributorInsights")
        assert [s["TableName"] for s in listed["ContributorInsightsSummaries"]] == ["users"]
        await refusal(
            service,
            "DescribeContributorInsights",
            ResourceNotFound,
            TableName="users",
            IndexName="none",
        )
