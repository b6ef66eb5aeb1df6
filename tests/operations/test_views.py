"""Views and hidden tables, as clients see them."""

import pytest

from streamtable.core.documents import TableDocument, ViewDocument
from streamtable.core.errors import ValidationError
from tests.operations.conftest import Service

READ_ONLY = (
    "days is the view shop/days, which can only be read: its rows follow from the items of orders. "
    "Change those instead."
)
KEY = {"id": {"S": "a"}}


def change(service, name, **changes):
    document = service.catalog.table(name).document
    return service.catalog.update(document.model_copy(update=changes))


def hide(service, name):
    return change(service, name, hidden=True)


async def refusal(service, operation, **body):
    with pytest.raises(ValidationError) as caught:
        await service(operation, **body)
    return caught.value.message


@pytest.fixture
async def views() -> Service:
    """A service with a table, a view of it, and a table in which that view is built anew."""
    service = Service()
    await service.table("orders")
    for name in ("days", "new"):
        await service.table(name)
        await service("PutItem", TableName=name, Item=KEY)
    view = ViewDocument(app="shop", name="days", kind="view", sources=("orders",), generation=1)
    await change(service, "days", view=view)
    document = service.catalog.table("new").document
    following = view.model_copy(update={"generation": 2})
    await service.catalog.create(
        document.model_copy(update={"name": "days~2", "view": following, "hidden": True})
    )
    return service


class TestHidden:
    async def test_a_hidden_table_is_not_listed_but_used(self, service):
        await service.table("notes")
        await service.table("users")
        await hide(service, "notes")
        assert (await service("ListTables"))["TableNames"] == ["users"]
        await service("PutItem", TableName="notes", Item={"id": {"S": "a"}})
        assert (await service("Scan", TableName="notes"))["Count"] == 1


async def test_a_views_document_survives_the_catalog(service):
    await service.table()
    document = service.catalog.table("users").document
    view = ViewDocument(
        app="shop",
        name="days",
        kind="aggregate",
        sources=("orders",),
        generation=2,
        values_id="x",
        measures={"best": {"kind": "top", "n": 3}},
    )
    document = document.model_copy(update={"view": view, "hidden": True})
    assert TableDocument.model_validate_json(document.model_dump_json()) == document


WRITES = {
    "PutItem": {"TableName": "days", "Item": KEY},
    "UpdateItem": {"TableName": "days", "Key": KEY},
    "DeleteItem": {"TableName": "days", "Key": KEY},
    "BatchWriteItem": {"RequestItems": {"days": [{"PutRequest": {"Item": KEY}}]}},
    "TransactWriteItems": {"TransactItems": [{"Delete": {"TableName": "days", "Key": KEY}}]},
    "UpdateTimeToLive": {
        "TableName": "days",
        "TimeToLiveSpecification": {"AttributeName": "until", "Enabled": True},
    },
}
STATEMENTS = (
    "INSERT INTO days VALUE {'id': 'b'}",
    "UPDATE days SET n = 1 WHERE id = 'a'",
    "DELETE FROM days WHERE id = 'a'",
)


class TestReadOnly:
    @pytest.mark.parametrize("operation", WRITES)
    async def test_each_write_is_refused(self, views, operation):
        assert await refusal(views, operation, **WRITES[operation]) == READ_ONLY  # type: ignore[arg-type]
        assert (await views("Scan", TableName="days"))["Items"] == [KEY]

    @pytest.mark.parametrize("statement", STATEMENTS)
    async def test_partiql_is_refused(self, views, statement):
        one = {"Statement": statement}
        assert await refusal(views, "ExecuteStatement", **one) == READ_ONLY
        assert await refusal(views, "ExecuteTransaction", TransactStatements=[one]) == READ_ONLY
        answer = await views("BatchExecuteStatement", Statements=[one])
        assert answer["Responses"][0]["Error"] == {
            "Code": "ValidationError",
            "Message": READ_ONLY,
        }

    async def test_a_transaction_with_one_write_of_a_view_does_nothing(self, views):
        items = [
            {"Put": {"TableName": "orders", "Item": KEY}},
            {"Put": {"TableName": "days", "Item": KEY}},
        ]
        assert await refusal(views, "TransactWriteItems", TransactItems=items) == READ_ONLY
        assert (await views("Scan", TableName="orders"))["Count"] == 0

    async def test_a_check_of_a_view_is_refused(self, views):
        check = {"TableName": "days", "Key": KEY, "ConditionExpression": "attribute_exists(id)"}
        message = await refusal(
            views, "TransactWriteItems", TransactItems=[{"ConditionCheck": check}]
        )
        assert message == READ_ONLY

    async def test_it_is_read_as_any_table(self, views):
        assert (await views("GetItem", TableName="days", Key=KEY))["Item"] == KEY
        request = {"days": {"Keys": [KEY]}}
        found = await views("BatchGetItem", RequestItems=request)
        assert found["Responses"] == {"days": [KEY]}
        get = {"Get": {"TableName": "days", "Key": KEY}}
        found = await views("TransactGetItems", TransactItems=[get])
        assert found["Responses"] == [{"Item": KEY}]
        found = await views("ExecuteStatement", Statement="SELECT * FROM days WHERE id = 'a'")
        assert found["Items"] == [KEY]

    async def test_its_stream_and_indexes_may_be_changed(self, views):
        stream = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        await views("UpdateTable", TableName="days", StreamSpecification=stream)
        index = {
            "IndexName": "by_state",
            "KeySchema": [{"AttributeName": "state", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"},
        }
        await views(
            "UpdateTable",
            TableName="days",
            AttributeDefinitions=[{"AttributeName": "state", "AttributeType": "S"}],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )
        table = (await views("DescribeTable", TableName="days"))["Table"]
        assert table["StreamSpecification"] == stream
        assert table["GlobalSecondaryIndexes"][0]["IndexName"] == "by_state"

    async def test_it_may_be_deleted_before_it_is_built(self, views):
        await change(views, "days", status="CREATING")
        await views("DeleteTable", TableName="days")
        assert (await views("ListTables"))["TableNames"] == ["new", "orders"]


class TestBuilding:
    async def test_its_table_is_read_by_name(self, views):
        found = await views("DescribeTable", TableName="days~2")
        assert found["Table"]["TableName"] == "days~2"
        assert (await views("GetItem", TableName="days~2", Key=KEY))["Item"] == KEY
        found = await views("BatchGetItem", RequestItems={"days~2": {"Keys": [KEY]}})
        assert found["Responses"] == {"days~2": [KEY]}

    async def test_it_is_not_written_changed_or_deleted(self, views):
        message = await refusal(views, "PutItem", TableName="days~2", Item=KEY)
        assert message.startswith("days~2 is a table of the view shop/days, which can only be read")
        stream = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        for operation, more in (
            ("UpdateTable", {"StreamSpecification": stream}),
            ("DeleteTable", {}),
        ):
            message = await refusal(views, operation, TableName="days~2", **more)
            assert message == (
                "days~2 belongs to the view shop/days and goes with it: change the table days "
                "instead"
            )

    @pytest.mark.parametrize("name", ["days~", "days~x", "days~2~", "days~2~Values", "days~2~a~b"])
    async def test_no_other_name_has_its_sign(self, views, name):
        message = await refusal(views, "Scan", TableName=name)
        assert "Member must satisfy regular expression pattern" in message

    async def test_no_table_is_made_under_such_a_name(self, views):
        message = await refusal(
            views,
            "CreateTable",
            TableName="days~3",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        assert "Member must satisfy regular expression pattern" in message
