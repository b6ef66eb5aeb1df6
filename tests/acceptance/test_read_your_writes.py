"""Reads that wait for a write, through boto3, with a worker that makes the views' rows."""

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.server import Server, client_settings
from tests.support.worker import Worker, create_table

CODE = """
from streamtable import Count, Index, Sum

@app.view(
    "by_status",
    source=TABLE,
    key=("status", "id"),
    indexes=[Index("by_total", "total")],
    types={"total": "N"},
)
def by_status(order):
    return order

@app.aggregate("counts", source="by_status", key="status", measures={"orders": Count()})
def counts(row):
    return {"status": row["status"]}
"""


class Positions:
    """Remembers where the client's writes are, and has its reads wait for them."""

    def __init__(self, client: Any, wait_ms: int | None = None) -> None:
        self.last = ""
        self.named = ""
        self.wait_ms = wait_ms
        client.meta.events.register("after-call.dynamodb", self._remember)
        client.meta.events.register("before-call.dynamodb", self._name)

    def _remember(self, http_response: Any, **_: Any) -> None:
        self.last = http_response.headers.get("x-streamtable-position", "")
        self.named = self.last or self.named

    def _name(self, params: dict[str, Any], **_: Any) -> None:
        if self.named:
            params["headers"]["x-streamtable-after"] = self.named
        if self.wait_ms is not None:
            params["headers"]["x-streamtable-wait-ms"] = str(self.wait_ms)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("positions") / "data").start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def plain(server: Server) -> Any:
    client = boto3.client(**client_settings(server.endpoint))
    create_table(client, "orders")
    return client


@pytest.fixture
def client(server: Server, plain: Any) -> Any:
    return boto3.client(**client_settings(server.endpoint))


@pytest.fixture(scope="module")
def worker(server: Server, plain: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = Worker(tmp_path_factory.mktemp("worker"), server.endpoint, "orders", CODE)
    running = made.start()
    waiter = plain.get_waiter("table_exists")
    # The waiter asks for the views before the worker has made anything of them, too.
    for name in ("by_status", "counts"):
        waiter.wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    yield running
    running.stop()


def order(number: int, status: str = "new") -> dict[str, Any]:
    return {"id": {"S": str(number)}, "status": {"S": status}, "total": {"N": str(number)}}


def put(number: int, status: str = "new") -> Callable[[Any], Any]:
    return lambda client: client.put_item(TableName="orders", Item=order(number, status))


def statement(text: str) -> Callable[[Any], Any]:
    return lambda client: client.execute_statement(Statement=text)


WRITES: dict[str, Callable[[Any], Any]] = {
    "put": put(1),
    "update": lambda client: client.update_item(
        TableName="orders",
        Key={"id": {"S": "1"}},
        UpdateExpression="SET #s = :s",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":s": {"S": "paid"}},
    ),
    "delete": lambda client: client.delete_item(TableName="orders", Key={"id": {"S": "1"}}),
    "statement": statement("INSERT INTO orders VALUE {'id': '2', 'status': 'new', 'total': 2}"),
    "statements": lambda client: client.batch_execute_statement(
        Statements=[{"Statement": "DELETE FROM orders WHERE id = '2'"}]
    ),
}


class TestPosition:
    @pytest.mark.parametrize("name", WRITES)
    def test_a_write_says_where_it_is(self, client, name):
        positions = Positions(client)
        WRITES[name](client)
        shard, _, offset = positions.last.partition(":")
        assert (int(shard) in range(4), int(offset) > 0) == (True, True)

    def test_a_batch_says_it_for_each_shard(self, client):
        positions = Positions(client)
        puts = [{"PutRequest": {"Item": order(number)}} for number in range(25)]
        client.batch_write_item(RequestItems={"orders": puts})
        assert sorted(each[0] for each in positions.last.split(",")) == ["0", "1", "2", "3"]

    def test_a_transaction_says_it_for_each_shard(self, client):
        positions = Positions(client)
        puts = [{"Put": {"TableName": "orders", "Item": order(n, "paid")}} for n in range(25)]
        client.transact_write_items(TransactItems=puts)
        assert sorted(each[0] for each in positions.last.split(",")) == ["0", "1", "2", "3"]
        statements = [
            {"Statement": f"UPDATE orders SET total = 9 WHERE id = '{number}'"}
            for number in range(25)
        ]
        client.execute_transaction(TransactStatements=statements)
        assert sorted(each[0] for each in positions.last.split(",")) == ["0", "1", "2", "3"]

    def test_what_writes_nothing_says_nothing(self, client):
        positions = Positions(client)
        put(30)(client)
        put(30)(client)
        assert positions.last == ""
        client.get_item(TableName="orders", Key={"id": {"S": "30"}})
        assert positions.last == ""
        with pytest.raises(client.exceptions.ConditionalCheckFailedException):
            client.put_item(
                TableName="orders",
                Item=order(30, "other"),
                ConditionExpression="attribute_not_exists(id)",
            )
        assert positions.last == ""

    def test_browsers_see_it(self, server):
        request = urllib.request.Request(f"{server.endpoint}/", headers={"Origin": "http://x"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            exposed = answer.headers["access-control-expose-headers"]
        assert "x-streamtable-position" in exposed.split(",")


@pytest.mark.usefixtures("worker")
def test_the_recipe_of_the_documentation(client):
    page = Path(__file__).parents[2] / "docs" / "read-your-writes.md"
    [code] = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.partition("client = ")[0], names)
    names["Written"](client)
    key = {"status": {"S": "noted"}, "id": {"S": "77"}}
    for _ in range(5):
        put(77, "noted")(client)
        assert "Item" in client.get_item(TableName="by_status", Key=key)
        client.delete_item(TableName="orders", Key={"id": {"S": "77"}})
        assert "Item" not in client.get_item(TableName="by_status", Key=key)


@pytest.mark.usefixtures("worker")
class TestViews:
    def found(self, client: Any, number: int, status: str) -> bool:
        key = {"status": {"S": status}, "id": {"S": str(number)}}
        return "Item" in client.get_item(TableName="by_status", Key=key)

    def test_a_view_shows_each_write_that_a_read_names(self, client):
        Positions(client, wait_ms=10_000)
        for number in range(100, 120):
            put(number)(client)
            assert self.found(client, number, "new")
            put(number, "paid")(client)
            assert not self.found(client, number, "new")
            assert self.found(client, number, "paid")

    @pytest.mark.parametrize(
        "read",
        [
            lambda client, key: client.batch_get_item(RequestItems={"by_status": {"Keys": [key]}})[
                "Responses"
            ]["by_status"],
            lambda client, key: client.transact_get_items(
                TransactItems=[{"Get": {"TableName": "by_status", "Key": key}}]
            )["Responses"][0],
            lambda client, key: client.query(
                TableName="by_status",
                KeyConditionExpression="#s = :s AND id = :i",
                ExpressionAttributeNames={"#s": "status"},
                ExpressionAttributeValues={":s": key["status"], ":i": key["id"]},
            )["Items"],
            lambda client, key: [
                row
                for row in client.scan(TableName="by_status", ConsistentRead=True)["Items"]
                if row["id"] == key["id"] and row["status"] == key["status"]
            ],
            lambda client, key: client.execute_statement(
                Statement="SELECT * FROM by_status WHERE status = ? AND id = ?",
                Parameters=[key["status"], key["id"]],
            )["Items"],
        ],
    )
    def test_every_kind_of_read_waits(self, client, read):
        Positions(client, wait_ms=10_000)
        for number in range(200, 205):
            put(number)(client)
            assert read(client, {"status": {"S": "new"}, "id": {"S": str(number)}})
            client.delete_item(TableName="orders", Key={"id": {"S": str(number)}})

    def test_an_index_of_a_view_waits(self, client):
        Positions(client, wait_ms=10_000)
        for number in range(1000, 1010):
            put(number)(client)
            found = client.query(
                TableName="by_status",
                IndexName="by_total",
                KeyConditionExpression="#t = :t",
                ExpressionAttributeNames={"#t": "total"},
                ExpressionAttributeValues={":t": {"N": str(number)}},
            )
            assert found["Count"] == 1

    def test_a_view_on_a_view_waits_for_both(self, client):
        Positions(client, wait_ms=10_000)
        for number in range(10):
            put(2000 + number, "many")(client)
            row = client.get_item(TableName="counts", Key={"status": {"S": "many"}})["Item"]
            assert row["orders"] == {"N": str(number + 1)}

    def test_a_table_does_not_wait(self, client):
        positions = Positions(client, wait_ms=0)
        put(300)(client)
        positions.named = "0:999999999"
        found = client.get_item(TableName="orders", Key={"id": {"S": "300"}})
        assert found["Item"] == order(300)

    def test_what_is_not_there_in_time_is_told(self, client):
        positions = Positions(client, wait_ms=50)
        positions.named = "1:999999999"
        began = time.monotonic()
        with pytest.raises(ClientError) as caught:
            client.scan(TableName="by_status")
        assert time.monotonic() - began >= 0.05
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert caught.value.response["Error"]["Code"] == "NotYetVisible"
        message = caught.value.response["Error"]["Message"]
        assert message.startswith("The view by_status does not show 1:999999999 after 50 ms: of ")
        assert "of shard 1 it has what is before " in message
        assert "records behind" in message
        with pytest.raises(ClientError, match="The view by_status does not show"):
            client.scan(TableName="counts")


class TestHeaders:
    @pytest.mark.parametrize(
        ("named", "wait_ms", "said"),
        [
            ("yesterday", None, "'yesterday' is not SHARD:OFFSET"),
            ("0:1,", None, "'' is not SHARD:OFFSET"),
            ("9:1", None, "names shard 9: this region has the shards 0 to 3"),
            ("0:1", 10_001, "a number of milliseconds, at most 10000"),
            ("0:1", -1, "a number of milliseconds"),
        ],
    )
    def test_what_can_not_be_read(self, client, named, wait_ms, said):
        positions = Positions(client, wait_ms)
        positions.named = named
        with pytest.raises(ClientError) as caught:
            client.scan(TableName="orders")
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        assert said in caught.value.response["Error"]["Message"]


def test_an_index_of_a_table_waits_after_a_crash(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    try:
        client = boto3.client(**client_settings(server.endpoint))
        client.create_table(
            TableName="users",
            AttributeDefinitions=[
                {"AttributeName": "id", "AttributeType": "S"},
                {"AttributeName": "mail", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by_mail",
                    "KeySchema": [{"AttributeName": "mail", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        positions = Positions(client)
        for round_ in range(2):
            puts = [
                {"PutRequest": {"Item": {"id": {"S": f"{round_}-{n}"}, "mail": {"S": f"m{n}"}}}}
                for n in range(25)
            ]
            client.batch_write_item(RequestItems={"users": puts})
            named = positions.named
            server.kill()
            server.start()
            client = boto3.client(**client_settings(server.endpoint))
            positions = Positions(client, wait_ms=10_000)
            positions.named = named
            found = client.scan(TableName="users", IndexName="by_mail")["Count"]
            assert found == 25 * (round_ + 1)
    finally:
        server.stop()
