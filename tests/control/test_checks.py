"""Checks: what they are asked, what they answer, and what a client is told."""

import logging
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from pydantic import BaseModel

from streamtable import App, Refused
from streamtable.control.checks import Checks
from streamtable.core.errors import ValidationError
from streamtable.core.images import Image
from streamtable.core.values import dump_item, item_size
from tests.streams.shards import PutWrite
from tests.support.commands import error_line
from tests.support.server import Server, client_settings

Plain = dict[str, Any] | None

ROW = PutWrite("a", 1)


class Expired(PutWrite):
    service = "dynamodb.amazonaws.com"


def image(**numbers: int) -> Image:
    item = {"id": {"S": "a"}} | {name: {"N": str(n)} for name, n in numbers.items()}
    return Image(dump_item(item), item_size(item), 1, "test", item)


def refusal(app: App, old: Image | None, new: Image | None) -> str:
    with pytest.raises(ValidationError) as caught:
        Checks([app])(ROW, old, new)
    return caught.value.message


@pytest.fixture
def app() -> App:
    return App("shop")


def test_it_is_given_copies_of_both_items(app: App) -> None:
    asked: list[Any] = []

    @app.check("users")
    def note(old: Plain, new: Plain) -> None:
        asked.append((old and dict(old), new and dict(new)))
        if new is not None:
            new["n"] = 7

    checks, old, new = Checks([app]), image(n=1), image(n=2)
    checks(ROW, None, new)
    checks(ROW, old, new)
    checks(ROW, old, None)
    before, after = {"id": "a", "n": 1}, {"id": "a", "n": 2}
    assert asked == [(None, after), (before, after), (before, None)]
    assert new.item["n"] == {"N": "2"}


def test_other_tables_other_events_and_expiry_are_not_asked_about(app: App) -> None:
    @app.check("users", on="INSERT")
    def never(old: Plain, new: Plain) -> None:
        raise Refused("no")

    @app.check("orders")
    def not_here(old: Plain, new: Plain) -> None:
        raise AssertionError

    checks = Checks([app])
    checks(ROW, image(n=1), image(n=2))
    checks(ROW, image(n=1), None)
    checks(Expired("a", 1), None, image(n=2))
    with pytest.raises(ValidationError, match=r"^no$"):
        checks(ROW, None, image(n=2))


def test_the_first_refusal_of_all_apps_counts(app: App) -> None:
    asked = []
    for each, name in ((app, "one"), (app, "two"), (App("other"), "three")):

        def refuse(old: Plain, new: Plain, name: str = name) -> None:
            asked.append(name)
            if name == "two":
                raise Refused(f"{name} says no")

        each.check("users", name=name)(refuse)
    assert refusal(app, None, image()) == "two says no"
    assert asked == ["one", "two"]


def test_a_refusal_without_words_names_the_check(app: App) -> None:
    @app.check("users")
    def closed(old: Plain, new: Plain) -> None:
        raise Refused

    assert refusal(app, None, image()) == "The write was refused by the check shop/closed"


def test_a_model_is_a_check(app: App) -> None:
    class User(BaseModel):
        id: str
        n: int

    @app.check("users")
    def shaped(old: Plain, new: User | None) -> None:
        assert new is None or new.n > 0

    Checks([app])(ROW, image(m=1), image(n=2))
    assert "does not fit User: n: Field required" in refusal(app, None, image(m=1))


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_check_that_fails_refuses(
    app: App, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    @app.check("users")
    def broken(old: Plain, new: Plain) -> None:
        raise error("at the bottom")

    said = refusal(app, None, image())
    assert "the check shop/broken failed" in said
    assert error.__name__ in said
    assert "at the bottom" not in said
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "at the bottom" in record.getMessage()
    assert record.getMessage().count("File ") == 1, "only the user's frames"


def test_an_answer_is_a_mistake(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.check("users")
    def polite(old: Plain, new: Plain) -> bool:
        return True

    assert "the check shop/polite failed: TypeError" in refusal(app, None, image())
    assert "polite returned True: a check raises Refused" in caplog.text


def test_a_check_that_is_slow_is_named_now_and_then(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = count(step=4)

    @app.check("users")
    def slow(old: Plain, new: Plain) -> None:
        pass

    checks = Checks([app], monotonic=lambda: next(seconds))
    for _ in range(5):
        checks(ROW, None, image())
    # A look at the clock before and after each: 8 seconds from one to the next.
    assert [record.getMessage()[:34] for record in caplog.records] == [
        "the check shop/slow took 4000 ms: "
    ] * 3


def test_the_page_runs_as_it_is_printed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checks.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "checks.md", "exec"), names)
    refuses = {"total": -1}
    with pytest.raises(Refused, match="can't be negative"):
        names["total"](None, refuses)
    names["total"](refuses, {"total": 1})
    names["total"](refuses, None)


RULES = """
from streamtable import App, Refused

app = App("rules")

@app.check("orders")
def total(old, new):
    if new is not None and new["total"] < 0:
        raise Refused(f"total {new['total']} is negative")

@app.check("orders", on="REMOVE")
def kept(old, new):
    if old.get("paid"):
        raise Refused("a paid order is kept")

nothing = App("nothing")
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules_of_test.py"
    path.write_text(RULES)
    return path


@pytest.fixture(scope="module")
def client(rules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("checked") / "data"
    running = Server(data, "--checks", f"{rules}:app").start()
    client = boto3.client(**client_settings(running.endpoint))
    client.create_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield client
    client.close()
    said = running.output()
    assert running.stop() == 0
    assert "rules/total checks INSERT, MODIFY, REMOVE of the table orders" in said


class TestOverHttp:
    @staticmethod
    def put(client: Any, key: str, total: int, **more: Any) -> None:
        item = {"id": {"S": key}, "total": {"N": str(total)}, **more}
        client.put_item(TableName="orders", Item=item)

    @staticmethod
    def total(client: Any, key: str) -> str | None:
        found = client.get_item(TableName="orders", Key={"id": {"S": key}}, ConsistentRead=True)
        return found["Item"]["total"]["N"] if "Item" in found else None

    def test_put_and_update(self, client: Any) -> None:
        self.put(client, "a", 5)
        with pytest.raises(ClientError, match="total -1 is negative") as caught:
            self.put(client, "a", -1)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        with pytest.raises(ClientError, match="total -2 is negative"):
            client.update_item(
                TableName="orders",
                Key={"id": {"S": "a"}},
                UpdateExpression="SET #t = #t - :n",
                ExpressionAttributeNames={"#t": "total"},
                ExpressionAttributeValues={":n": {"N": "7"}},
            )
        assert self.total(client, "a") == "5"

    def test_delete(self, client: Any) -> None:
        self.put(client, "b", 5, paid={"BOOL": True})
        with pytest.raises(ClientError, match="a paid order is kept"):
            client.delete_item(TableName="orders", Key={"id": {"S": "b"}})
        assert self.total(client, "b") == "5"

    def test_the_condition_comes_first(self, client: Any) -> None:
        self.put(client, "c", 5)
        with pytest.raises(client.exceptions.ConditionalCheckFailedException):
            client.put_item(
                TableName="orders",
                Item={"id": {"S": "c"}, "total": {"N": "-1"}},
                ConditionExpression="attribute_not_exists(id)",
            )

    def test_batch(self, client: Any) -> None:
        puts = [
            {"PutRequest": {"Item": {"id": {"S": f"d{n}"}, "total": {"N": str(n - 1)}}}}
            for n in range(10)
        ]
        with pytest.raises(ClientError, match="total -1 is negative") as caught:
            client.batch_write_item(RequestItems={"orders": puts})
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        found = [self.total(client, f"d{n}") for n in range(10)]
        assert found == [None, *(str(n - 1) for n in range(1, 10))]

    def test_a_transaction_over_several_shards(self, client: Any) -> None:
        puts = [
            {"Put": {"TableName": "orders", "Item": {"id": {"S": f"e{n}"}, "total": {"N": total}}}}
            for n, total in enumerate(["1", "2", "-3", "4", "5", "6"])
        ]
        with pytest.raises(client.exceptions.TransactionCanceledException) as caught:
            client.transact_write_items(TransactItems=puts)
        reasons = caught.value.response["CancellationReasons"]
        assert [reason["Code"] for reason in reasons] == [
            "None",
            "None",
            "ValidationError",
            "None",
            "None",
            "None",
        ]
        assert reasons[2]["Message"] == "total -3 is negative"
        assert {self.total(client, f"e{n}") for n in range(6)} == {None}

    def test_partiql(self, client: Any) -> None:
        insert = "INSERT INTO orders VALUE {'id': 'f', 'total': -1}"
        with pytest.raises(ClientError, match="total -1 is negative") as caught:
            client.execute_statement(Statement=insert)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        [answer] = client.batch_execute_statement(Statements=[{"Statement": insert}])["Responses"]
        assert answer["Error"]["Code"] == "ValidationError"
        assert answer["Error"]["Message"] == "total -1 is negative"
        with pytest.raises(client.exceptions.TransactionCanceledException) as cancelled:
            client.execute_transaction(TransactStatements=[{"Statement": insert}])
        [reason] = cancelled.value.response["CancellationReasons"]
        assert reason == {"Code": "ValidationError", "Message": "total -1 is negative"}

    def test_a_check_that_fails(self, client: Any) -> None:
        with pytest.raises(ClientError, match="the check rules/total failed: KeyError") as caught:
            client.put_item(TableName="orders", Item={"id": {"S": "g"}})
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        assert self.total(client, "g") is None

    def test_an_app_without_checks_is_a_mistake(self, rules: Path, tmp_path: Path) -> None:
        said = error_line("serve", "--data", str(tmp_path / "data"), "--checks", f"{rules}:nothing")
        assert "the app nothing in" in said
        assert "has no checks" in said
