"""examples/shop as a new user runs it, and its views beside a recomputation."""

import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.commands import BIN, Background
from tests.support.elasticsearch import Elasticsearch
from tests.support.server import Server, client_settings
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

SHOP = Path(__file__).resolve().parent.parent / "examples" / "shop"
COUNTED = {"paid", "shipped"}


@pytest.fixture
def checked(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data", "--checks", f"{SHOP / 'checks.py'}:app").start()
    yield running
    running.stop()


def environment(server: Server) -> dict[str, str]:
    return {
        **os.environ,
        "STREAMTABLE_ENDPOINT": server.endpoint,
        # Nothing listens there, whatever runs on this machine.
        "STREAMTABLE_ELASTICSEARCH": "http://127.0.0.1:1",
        "SHOP_PAUSE_S": "0.02",
        "PYTHONUNBUFFERED": "1",
    }


def items(resource: Any, table: str) -> list[dict[str, Any]]:
    found = resource.Table(table).scan(ConsistentRead=True)
    assert "LastEvaluatedKey" not in found
    return list(found["Items"])


def expected(resource: Any) -> dict[str, Any]:
    """What the views have to say, from the tables as they are."""
    orders = items(resource, "orders")
    names = {user["id"]: user["name"] for user in items(resource, "users")}
    days: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for order in orders:
        if order["status"] in COUNTED:
            days[order["placed_at"][:10]].append(order)
    return {
        "orders_by_status": {(each["status"], each["order_id"], each["total"]) for each in orders},
        "revenue_by_day": {
            (
                day,
                len(each),
                sum((order["total"] for order in each), Decimal(0)),
                len({order["user_id"] for order in each}),
                max(order["total"] for order in each),
            )
            for day, each in days.items()
        },
        "orders_with_users": {(each["order_id"], names[each["user_id"]]) for each in orders},
    }


def shown(resource: Any) -> dict[str, Any]:
    """What the views say."""
    return {
        "orders_by_status": {
            (row["status"], row["order_id"], row["total"])
            for row in items(resource, "orders_by_status")
        },
        "revenue_by_day": {
            (
                row["day"],
                row["orders"],
                row["revenue"],
                row["customers"],
                row["largest"][0]["total"],
            )
            for row in items(resource, "revenue_by_day")
        },
        "orders_with_users": {
            (row["order_id"], row["name"]) for row in items(resource, "orders_with_users")
        },
    }


def test_a_newcomer_sees_events_flow(checked: Server, tmp_path: Path) -> None:
    output = tmp_path / "shop.log"
    command = [sys.executable, str(SHOP / "run.py")]
    shop = Background(command, output, env=environment(checked))
    with shop:
        shop.wait_for(r"created the table orders")
        shop.wait_for(r"the product search is left out")
        user = shop.wait_for(r"traffic +(\S+) signs up")[1]
        shop.wait_for(rf"mail +To: {user}@example\.com  Subject: Welcome, ", 60)
        shop.wait_for(r"mail +To: \S+  Subject: Order \w+ is on its way", 60)
        shop.wait_for(r"mallory's order is refused: an order's total can't be negative", 60)
        shop.wait_for(r"report +orders: \d+ new, \d+ paid", 60)
        shop.wait_for(r"report +today [\d.]+ from \d+ orders of \d+ users", 60)
        # As Ctrl-C in a terminal does it.
        os.killpg(shop.process.pid, signal.SIGINT)
        assert shop.process.wait(60) == 0, shop.text()
    assert "Traceback" not in shop.text()
    shipped = set(re.findall(r"traffic +order (\w+) is shipped", shop.text()))
    assert set(re.findall(r"Order (\w+) is on its way", shop.text())) <= shipped

    resource = boto3.resource(**client_settings(checked.endpoint))
    worker = [str(BIN / "streamtable"), "worker", f"{SHOP / 'app.py'}:app"]
    with Background(worker, tmp_path / "worker.log", env=environment(checked)):
        # The shop may have been stopped before a view was built, which this worker does then.
        for view in ("orders_by_status", "revenue_by_day", "orders_with_users"):
            waiter = resource.meta.client.get_waiter("table_exists")
            waiter.wait(TableName=view, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        wanted = expected(resource)
        wait_until(lambda: shown(resource) == wanted, "the views to be as the tables are", 60)
        orders = {order["order_id"] for order in items(resource, "orders")}
        wait_until(
            lambda: orders <= {entry["order_id"] for entry in items(resource, "audit")},
            "every order to be audited",
        )
    resource.meta.client.close()


def test_it_can_be_started_again(checked: Server, tmp_path: Path) -> None:
    for attempt in range(2):
        output = tmp_path / f"shop-{attempt}.log"
        command = [sys.executable, str(SHOP / "run.py")]
        with Background(command, output, env=environment(checked)) as shop:
            shop.wait_for(r"traffic +\S+ orders")
        assert ("created the table" in shop.text()) == (attempt == 0)
        assert "Traceback" not in shop.text()


def test_products_are_searched(
    checked: Server, tmp_path: Path, elasticsearch: Elasticsearch
) -> None:
    settings = {**environment(checked), "STREAMTABLE_ELASTICSEARCH": elasticsearch.url}
    command = [sys.executable, str(SHOP / "run.py")]
    with Background(command, tmp_path / "shop.log", env=settings) as shop:
        shop.wait_for(re.escape(f"products are searched in Elasticsearch: {elasticsearch.url}"))
        shop.wait_for(r"traffic +\S+ orders")
        wait_until(
            lambda: len(elasticsearch.documents("products")) == 5, "the products' documents", 60
        )
    resource = boto3.resource(**client_settings(checked.endpoint))
    stock = {each["id"]: each["stock"] for each in items(resource, "products")}
    resource.meta.client.close()
    worker = [str(BIN / "streamtable"), "worker", f"{SHOP / 'app.py'}:app"]
    with Background(worker, tmp_path / "worker.log", env=settings):

        def followed() -> bool:
            documents = elasticsearch.documents("products")
            return {key: each["stock"] for key, each in documents.items()} == stock

        wait_until(followed, "the index to be as the table is", 60)
    found = elasticsearch.call("GET", "/products/_search?q=whistles")["hits"]["hits"]
    assert [hit["_source"]["id"] for hit in found] == ["kettle"]
