"""Views' tables on a node: made, swapped and dropped, through restarts and crashes."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.server import Server, client_settings
from tests.support.topics import read_topic
from tests.support.waiting import wait_until

ORDERS = {
    "TableName": "orders",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}
INDEX = {
    "IndexName": "by_total",
    "KeySchema": [{"AttributeName": "total", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "ALL"},
}
DAYS: dict[str, Any] = {
    "TableName": "days",
    "AttributeDefinitions": [
        {"AttributeName": "day", "AttributeType": "S"},
        {"AttributeName": "total", "AttributeType": "N"},
    ],
    "KeySchema": [{"AttributeName": "day", "KeyType": "HASH"}],
    "GlobalSecondaryIndexes": [INDEX],
}
STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}


class Refused(Exception):
    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status, body)
        self.status = status
        self.code = body["__type"].rpartition("#")[2]
        self.message = body.get("message") or body.get("Message")


class Node:
    """A server, and what a worker asks of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = boto3.client(**client_settings(server.endpoint))

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
        self.client = boto3.client(**client_settings(self.server.endpoint))

    def post(self, page: str, **body: Any) -> dict[str, Any]:
        url = f"{self.server.endpoint}/_streamtable/views/{page}"
        data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(url, data, timeout=60) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(error.code, json.load(error)) from None
        return found

    def views(self) -> list[dict[str, Any]]:
        url = f"{self.server.endpoint}/_streamtable/views"
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)["views"]
        return found

    def create(self, generation: int, **more: Any) -> dict[str, Any]:
        body = {
            "app": "shop",
            "name": "days",
            "generation": generation,
            "kind": "view",
            "sources": ["orders"],
            "table": DAYS,
        }
        return self.post("create", **(body | more))

    def swap(self, generation: int, **more: Any) -> dict[str, Any]:
        return self.post("swap", **({"app": "shop", "name": "days"} | more), generation=generation)

    def drop(self, generation: int | None = None) -> dict[str, Any]:
        return self.post("drop", app="shop", name="days", generation=generation)

    def fill(self, table_id: str, *rows: tuple[str, int], place: int = 1, kind: str = "N") -> None:
        """Put rows into a view, as the worker does; each goes to every shard, one takes it."""
        for day, total in rows:
            put = {"put": {"day": {"S": day}, "total": {kind: str(total)}}}
            for target in range(4):
                try:
                    self.post(
                        "ingest",
                        view=table_id,
                        source=0,
                        target=target,
                        after=self.token(table_id, target),
                        through=[place, self._number()],
                        operations=[json.dumps(put)],
                    )
                except Refused as error:
                    if "belongs to shard" not in error.message:  # type: ignore[operator]
                        raise
                else:
                    break

    _given = 0

    def _number(self) -> int:
        Node._given += 1
        return Node._given

    def token(self, table_id: str, target: int) -> Any:
        url = f"{self.server.endpoint}/_streamtable/views/tokens?view={table_id}&source=0"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["tokens"].get(str(target))

    def read(self, name: str = "days", **more: Any) -> dict[str, int]:
        items = self.client.scan(TableName=name, **more)["Items"]
        return {item["day"]["S"]: int(item["total"]["N"]) for item in items}

    def describe(self, name: str = "days") -> dict[str, Any]:
        table: dict[str, Any] = self.client.describe_table(TableName=name)["Table"]
        return table

    def tables(self) -> list[str]:
        names: list[str] = self.client.list_tables()["TableNames"]
        return names

    def there(self, name: str) -> bool:
        try:
            self.describe(name)
        except self.client.exceptions.ResourceNotFoundException:
            return False
        return True


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("views") / "data").start()
    yield made
    made.stop()


@pytest.fixture
def node(server: Server) -> Iterator[Node]:
    made = Node(server)
    made.client.create_table(**ORDERS)
    yield made
    for name in made.tables():
        made.client.delete_table(TableName=name)


def built(node: Node, generation: int = 1, *rows: tuple[str, int], **more: Any) -> str:
    """Build a generation and have clients read it; return its table's id."""
    table_id: str = node.create(generation, **more)["id"]
    node.fill(table_id, *rows)
    node.swap(generation)
    return table_id


class TestBuild:
    def test_a_view_is_being_created_until_it_is_built(self, node):
        created = node.create(1)
        assert created["name"] == "days~1"
        assert node.tables() == ["days", "orders"]
        assert node.describe()["TableStatus"] == "CREATING"
        [view] = node.views()
        assert (view["state"], view["generation"], view["rows"]) == ("building", 0, 0)
        assert view["building"]["generation"] == 1
        with pytest.raises(node.client.exceptions.ResourceNotFoundException):
            node.read()
        node.fill(created["id"], ("mon", 1), ("tue", 2))
        assert node.read("days~1") == {"mon": 1, "tue": 2}
        node.swap(1)
        table = node.describe()
        assert table["TableStatus"] == "ACTIVE"
        assert table["TableId"] == created["id"]
        assert table["TableArn"].endswith(":table/days")
        assert node.read() == {"mon": 1, "tue": 2}
        wait_until(lambda: node.views()[0]["rows"] == 2, "the rows to be counted")
        [view] = node.views()
        assert view == view | {
            "app": "shop",
            "name": "days",
            "kind": "view",
            "sources": ["orders"],
            "generation": 1,
            "state": "active",
            "building": None,
        }
        assert not node.there("days~1")

    def test_an_sdk_waits_for_the_build(self, node):
        table_id = node.create(1)["id"]
        waiter = node.client.get_waiter("table_exists")
        with pytest.raises(Exception, match="Max attempts exceeded"):
            waiter.wait(TableName="days", WaiterConfig={"Delay": 0, "MaxAttempts": 3})
        node.fill(table_id, ("mon", 1))
        node.swap(1)
        waiter.wait(TableName="days", WaiterConfig={"Delay": 0, "MaxAttempts": 1})

    def test_clients_read_the_old_rows_until_the_swap(self, node):
        first = built(node, 1, ("mon", 1), ("old", 3))
        second = node.create(2)["id"]
        node.fill(second, ("mon", 2))
        assert node.read() == {"mon": 1, "old": 3}
        assert node.views()[0]["state"] == "rebuilding"
        node.swap(2)
        assert node.read() == {"mon": 2}
        assert node.read(IndexName="by_total") == {"mon": 2}
        with pytest.raises(Refused) as caught:
            node.fill(first, ("mon", 5))
        assert caught.value.code == "ResourceNotFoundException"

    def test_a_copy_in_a_topic_goes_on(self, node):
        first = built(node, 1, ("before", 1))
        arn = "arn:aws:kinesis:eu-central-1:000000000000:stream/days"
        node.client.enable_kinesis_streaming_destination(TableName="days", StreamArn=arn)
        node.fill(first, ("mon", 1))
        second = node.create(2)["id"]
        node.fill(second, ("built", 2), ("mon", 1))
        node.swap(2)
        described = node.client.describe_kinesis_streaming_destination(TableName="days")
        [found] = described["KinesisDataStreamDestinations"]
        assert found["DestinationStatus"] in {"ENABLING", "ACTIVE"}
        node.fill(second, ("tue", 3))

        def copied() -> list[str]:
            found = asyncio.run(read_topic(node.server.broker, "local.table.days"))
            return [f"{each.value['eventName']} {each.key['day']['S']}" for each in found]

        wait_until(lambda: "INSERT tue" in copied(), "what came after the swap to be copied")
        assert set(copied()) == {"INSERT mon", "INSERT tue"}

    def test_an_index_has_every_row_at_the_swap(self, node):
        table_id = node.create(1)["id"]
        rows = [(f"day{number}", number) for number in range(50)]
        node.fill(table_id, *rows)
        node.swap(1)
        assert node.read(IndexName="by_total") == dict(rows)
        node.fill(table_id, ("late", 7))
        node.restart()
        every = dict(rows) | {"late": 7}
        wait_until(lambda: node.read(IndexName="by_total") == every, "the index to have it")

    def test_each_call_may_be_repeated(self, node):
        assert node.create(1)["id"] == node.create(1)["id"]
        answer = node.swap(1)
        assert node.swap(1)["id"] == answer["id"] == node.create(1)["id"]
        node.create(2)
        node.drop(2)
        assert node.drop(2) == {"dropped": []}

    def test_a_build_that_is_given_up(self, node):
        built(node, 1, ("mon", 1))
        other = node.create(2, part="sides", kind="join")
        node.fill(node.create(2)["id"], ("mon", 2))
        assert sorted(node.drop(2)["dropped"]) == ["days~2", other["name"]]
        assert node.read() == {"mon": 1}
        assert node.views()[0]["state"] == "active"

    def test_an_aggregate_has_a_table_for_its_values(self, node):
        measures = {"best": {"kind": "max"}}
        keys = [
            {"AttributeName": "day", "KeyType": "HASH"},
            {"AttributeName": "total", "KeyType": "RANGE"},
        ]
        table = {**DAYS, "KeySchema": keys}
        more: dict[str, Any] = {"kind": "aggregate", "measures": measures, "table": table}
        created = node.create(1, **more)
        values = node.describe("days~1~values")
        assert created["view"]["values_id"] == values["TableId"]
        assert values["KeySchema"] == [
            {"AttributeName": "day", "KeyType": "HASH"},
            {"AttributeName": "_value", "KeyType": "RANGE"},
        ]
        node.swap(1)
        assert node.there("days~1~values")
        built(node, 2, **more)
        assert not node.there("days~1~values")
        assert node.there("days~2~values")
        assert node.tables() == ["days", "orders"]

    def test_an_aggregate_of_counts_has_none(self, node):
        created = node.create(1, kind="aggregate", measures={"orders": {"kind": "count"}})
        assert created["view"]["values_id"] is None
        assert not node.there("days~1~values")


class TestRefusals:
    def refused(self, act, *args: Any, **more: Any) -> tuple[str, str]:
        with pytest.raises(Refused) as caught:
            act(*args, **more)
        return caught.value.code, caught.value.message  # type: ignore[return-value]

    def test_a_name_that_a_table_has(self, node):
        node.client.create_table(**{**ORDERS, "TableName": "days"})
        assert self.refused(node.create, 1) == (
            "ValidationException",
            (
                "days is a table, so the view shop/days can't have its name: delete the table, or "
                "give the view another name"
            ),
        )

    def test_a_name_that_another_apps_view_has(self, node):
        node.create(1)
        assert self.refused(node.create, 2, app="bakery") == (
            "ValidationException",
            "days is a view of the app shop already: bakery can't have one of that name",
        )

    def test_no_table_gets_a_views_name(self, node):
        node.create(1)
        with pytest.raises(node.client.exceptions.ResourceInUseException):
            node.client.create_table(**{**ORDERS, "TableName": "days"})

    def test_a_source_that_is_not_there(self, node):
        code, message = self.refused(node.create, 1, sources=["baskets"])
        assert code == "ResourceNotFoundException"
        assert "the table baskets, which does not exist" in message

    def test_views_that_follow_from_each_other(self, node):
        built(node)
        node.create(1, name="weeks", sources=["days"])
        message = self.refused(node.create, 2, sources=["orders", "weeks"])[1]
        assert message == "the view shop/days can't follow from weeks, which follows from it"
        assert "can't follow from days" in self.refused(node.create, 2, sources=["days"])[1]
        node.post("drop", app="shop", name="weeks")

    def test_the_rules_for_tables_hold(self, node):
        wrong = {**DAYS, "KeySchema": [{"AttributeName": "week", "KeyType": "HASH"}]}
        code, message = self.refused(node.create, 1, table=wrong)
        assert (code, "week" in message) == ("ValidationException", True)
        many = [{**INDEX, "IndexName": f"index{number}"} for number in range(21)]
        message = self.refused(node.create, 1, table={**DAYS, "GlobalSecondaryIndexes": many})[1]
        assert "exceeds the per-table limit of 20" in message
        assert node.tables() == ["orders"]

    def test_an_older_generation(self, node):
        built(node, 3)
        assert self.refused(node.create, 2)[1] == (
            "generation 2 of the view shop/days can't be built any more: clients read generation 3"
        )
        assert self.refused(node.drop, 3)[0] == "ValidationException"
        assert self.refused(node.swap, 4)[0] == "ResourceNotFoundException"
        assert self.refused(node.swap, 1, name="weeks")[0] == "ResourceNotFoundException"

    def test_a_generation_with_another_key(self, node):
        node.create(1)
        other = [
            {"AttributeName": "day", "KeyType": "HASH"},
            {"AttributeName": "total", "KeyType": "RANGE"},
        ]
        code, _ = self.refused(node.create, 1, table={**DAYS, "KeySchema": other})
        assert code == "ResourceInUseException"

    def test_a_protected_view(self, node):
        built(node)
        node.client.update_table(TableName="days", DeletionProtectionEnabled=True)
        assert "protected against deletion" in self.refused(node.drop)[1]
        node.client.update_table(TableName="days", DeletionProtectionEnabled=False)


class TestDelete:
    def test_deleting_a_view_removes_all_that_belongs_to_it(self, node):
        built(node, 1, ("mon", 1))
        table_id = node.create(2)["id"]
        node.fill(table_id, ("mon", 2))
        node.client.delete_table(TableName="days")
        wait_until(lambda: not node.there("days~2"), "the build to be removed")
        assert node.views() == []
        node.client.create_table(**{**ORDERS, "TableName": "days"})
        assert node.client.scan(TableName="days")["Count"] == 0

    def test_a_view_is_built_again_after_it_was_deleted(self, node):
        built(node, 4, ("mon", 1))
        node.client.delete_table(TableName="days")
        built(node, 5, ("tue", 2))
        assert node.read() == {"tue": 2}


class TestSettings:
    def test_what_users_set_is_kept_when_it_is_built_anew(self, node):
        built(node, 1, ("mon", 1))
        arn = node.describe()["TableArn"]
        node.client.tag_resource(ResourceArn=arn, Tags=[{"Key": "team", "Value": "a"}])
        node.client.update_table(TableName="days", StreamSpecification=STREAM)
        mine = {
            "IndexName": "by_day",
            "KeySchema": [
                {"AttributeName": "total", "KeyType": "HASH"},
                {"AttributeName": "state", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }
        node.client.update_table(
            TableName="days",
            AttributeDefinitions=[
                {"AttributeName": "total", "AttributeType": "N"},
                {"AttributeName": "state", "AttributeType": "S"},
            ],
            GlobalSecondaryIndexUpdates=[{"Create": mine}],
        )
        first = node.describe()
        built(node, 2, ("mon", 2))
        table = node.describe()
        assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == [
            "by_total",
            "by_day",
        ]
        assert table["AttributeDefinitions"] == first["AttributeDefinitions"]
        assert table["StreamSpecification"] == STREAM
        assert table["LatestStreamLabel"] != first["LatestStreamLabel"]
        tags = node.client.list_tags_of_resource(ResourceArn=arn)["Tags"]
        assert tags == [{"Key": "team", "Value": "a"}]

    def test_an_index_added_during_a_build_is_filled_after_it(self, node):
        built(node, 1, ("mon", 1))
        second = node.create(2)["id"]
        node.fill(second, ("mon", 2), ("tue", 3))
        definitions = [{"AttributeName": "day", "AttributeType": "S"}]
        keys = [{"AttributeName": "day", "KeyType": "HASH"}]
        mine = {"IndexName": "mine", "KeySchema": keys, "Projection": {"ProjectionType": "ALL"}}
        node.client.update_table(
            TableName="days",
            AttributeDefinitions=definitions,
            GlobalSecondaryIndexUpdates=[{"Create": mine}],
        )
        node.swap(2)

        def status() -> str:
            indexes = {
                each["IndexName"]: each for each in node.describe()["GlobalSecondaryIndexes"]
            }
            return str(indexes["mine"]["IndexStatus"])

        wait_until(lambda: status() == "ACTIVE", "the index to be filled")
        wait_until(
            lambda: node.read(IndexName="mine") == {"mon": 2, "tue": 3},
            "the index to have the rows",
        )

    def test_a_row_that_is_no_key_of_an_index_is_not_in_it(self, node):
        table_id = node.create(1)["id"]
        node.fill(table_id, ("mon", 1))
        node.fill(table_id, ("tue", 2), kind="S")
        node.swap(1)
        assert node.read(IndexName="by_total") == {"mon": 1}
        assert len(node.client.scan(TableName="days")["Items"]) == 2

    def test_its_stream_begins_with_the_swap(self, node):
        table = {**DAYS, "StreamSpecification": STREAM}
        table_id = built(node, 1, ("mon", 1), table=table)
        node.fill(table_id, ("tue", 2))
        streams = boto3.client(
            **client_settings(node.server.endpoint) | {"service_name": "dynamodbstreams"}
        )
        arn = node.describe()["LatestStreamArn"]
        found = []
        for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            iterator = streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            records = streams.get_records(ShardIterator=iterator)["Records"]
            found += [record["dynamodb"]["Keys"]["day"]["S"] for record in records]
        assert found == ["tue"]


class TestRestart:
    def test_a_build_goes_on_after_a_crash(self, node):
        built(node, 1, ("mon", 1))
        table_id = node.create(2)["id"]
        node.fill(table_id, ("mon", 2))
        node.restart()
        assert node.read() == {"mon": 1}
        assert node.create(2)["id"] == table_id
        node.fill(table_id, ("tue", 3))
        node.swap(2)
        node.restart()
        assert node.read() == {"mon": 2, "tue": 3}
        assert node.views()[0]["generation"] == 2

    def test_a_view_is_read_only_after_a_restart(self, node):
        built(node, 1, ("mon", 1))
        node.restart()
        with pytest.raises(ClientError, match="days is the view shop/days"):
            node.client.delete_item(TableName="days", Key={"day": {"S": "mon"}})
