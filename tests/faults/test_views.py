"""Views are what their sources imply, whoever is killed and when."""

import asyncio
import json
import os
import random
import urllib.request
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.audit import read_all
from tests.support.commands import BIN, Background
from tests.support.load import AsyncConnection, Unanswered
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.waiting import until

KILLS: Final = int(os.environ.get("STREAMTABLE_VIEW_KILLS", "5"))
"""How often somebody is killed; STREAMTABLE_VIEW_KILLS for more."""

_ROUND: Final = 5
_SETTLE_S: Final = 120

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300 + 60 * KILLS)]

CODE = """
from streamtable import App, Avg, Count, Distinct, Max, Min, Sum, Top

app = App("faults")

@app.view("by_tag", source="orders", key=("tag", "id"))
def by_tag(order):
    return [{"tag": tag, "id": order["id"], "total": order["total"]} for tag in order["tags"]]

@app.aggregate("by_user", source="orders", key="user", measures={
    "orders": Count(), "sum": Sum("total"), "mean": Avg("total"), "least": Min("total"),
    "most": Max("total"), "totals": Distinct("total"), "best": Top(2, by="total"),
})
def by_user(order):
    return order

@app.join("met", left="orders", right="users", on=("user", "id"), key=("user", "order"))
def met(order, user):
    return {"user": user["id"], "order": order["id"], "name": user["name"], "n": order["total"]}

@app.join("known", left="orders", right="users", on=("user", "id"), key=("order", "user"),
          kind="left")
def known(order, user):
    name = user["name"] if user else "nobody"
    return {"order": order["id"], "user": order["user"], "name": name}
"""
VIEWS: Final = ("by_tag", "by_user", "met", "known")


class Workers:
    """Two workers of one app, each of which can be killed and started again."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self._folder = folder
        self._endpoint = endpoint
        (folder / "faults.py").write_text(CODE)
        self._starts = 0
        self.running: dict[int, Background] = {}

    def start(self, number: int) -> None:
        self._starts += 1
        self.running[number] = Background(
            [str(BIN / "streamtable"), "worker", f"{self._folder}/faults.py:app",
             "--endpoint", self._endpoint],
            self._folder / f"worker-{self._starts}.log",
        )  # fmt: skip

    def kill(self, number: int) -> None:
        self.running.pop(number).kill()

    def check(self) -> None:
        """Fail if a worker has ended by itself."""
        for each in self.running.values():
            assert each.process.poll() is None, each.text()


class Orders:
    """Puts and deletes orders and users at random, over connections that may break."""

    def __init__(self, endpoint: str, chance: random.Random) -> None:
        self._endpoint = endpoint
        self._chance = chance
        self.answered = 0

    async def create(self) -> None:
        async with AsyncConnection(self._endpoint) as connection:
            for name in ("orders", "users"):
                await connection.ok(
                    "CreateTable", TableName=name, BillingMode="PAY_PER_REQUEST",
                    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                )  # fmt: skip

    def reached(self, target: int) -> bool:
        """Whether so many writes are answered."""
        return self.answered >= target

    async def run(self) -> None:
        """Write until cancelled."""
        async with AsyncConnection(self._endpoint) as connection:
            while True:
                try:
                    await connection.call(*self._next())
                except Unanswered:
                    await asyncio.sleep(0.05)
                else:
                    self.answered += 1

    def _next(self) -> tuple[str, dict[str, Any]]:
        chance = self._chance
        table, many = ("orders", 200) if chance.random() < 0.8 else ("users", 20)
        item: dict[str, Any] = {"id": {"S": f"{table[0]}{chance.randrange(many)}"}}
        if chance.random() < 0.3:
            return "DeleteItem", {"TableName": table, "Key": item}
        if table == "users":
            item["name"] = {"S": f"name {chance.randrange(9)}"}
        else:
            item["user"] = {"S": f"u{chance.randrange(25)}"}
            item["total"] = {"N": str(chance.randrange(50))}
            item["tags"] = {"SS": chance.sample(["a", "b", "c", "d"], chance.randint(1, 3))}
        return "PutItem", {"TableName": table, "Item": item}


def expected(orders: list[Any], users: list[Any]) -> dict[str, list[str]]:
    """Every view's rows, from nothing."""
    names = {user["id"]["S"]: user["name"] for user in users}
    rows: dict[str, list[Any]] = {view: [] for view in VIEWS}
    groups = defaultdict(list)
    for order in orders:
        key, user, total = order["id"], order["user"], order["total"]
        rows["by_tag"] += [
            {"tag": {"S": t}, "id": key, "total": total} for t in order["tags"]["SS"]
        ]
        name = names.get(user["S"])
        rows["known"].append({"order": key, "user": user, "name": name or {"S": "nobody"}})
        if name is not None:
            rows["met"].append({"user": user, "order": key, "name": name, "n": total})
        groups[user["S"]].append(int(total["N"]))
    for user, totals in groups.items():
        best = sorted(totals, reverse=True)[:2]
        numbers = {
            "orders": len(totals), "sum": sum(totals), "least": min(totals), "most": max(totals),
            "totals": len(set(totals)),
        }  # fmt: skip
        rows["by_user"].append({
            "user": {"S": user},
            **{name: {"N": str(number)} for name, number in numbers.items()},
            "best": {"L": [{"M": {"total": {"N": str(total)}}} for total in best]},
        })  # fmt: skip
    return {view: sorted(json.dumps(row, sort_keys=True) for row in rows[view]) for view in VIEWS}


def shown(view: str, rows: list[Any]) -> list[str]:
    """A view's rows as `expected` has them: an average is checked against its parts."""
    for row in rows if view == "by_user" else ():
        mean, total, count = (float(row.pop(name)["N"]) for name in ("mean", "_sum_mean", "_count"))
        assert mean == pytest.approx(total / count)
        assert str(int(total)) == row["sum"]["N"]
        assert row.pop("_count_mean") == row["orders"]
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def page(endpoint: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{endpoint}/_streamtable/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


async def settled(endpoint: str, workers: Workers) -> None:
    """Wait until every view has dealt with all that was written."""

    def behind() -> list[str]:
        workers.check()
        found = {each["name"]: each for each in page(endpoint, "consumers")["consumers"]}
        assert not [each for each in found.values() if each["state"] == "stopped"], found
        return [
            name
            for name in VIEWS
            if name not in found
            or found[name]["lag"]
            or found[name]["request"]
            or found[name]["state"] != "running"
            or not found[name]["generation"]
        ]

    try:
        await until(lambda: not behind(), "the views to catch up", _SETTLE_S)
    except TimeoutError:
        for each in page(endpoint, "consumers")["consumers"]:
            print({name: value for name, value in each.items() if name != "definition"})
        raise


async def check(endpoint: str) -> None:
    async with AsyncConnection(endpoint) as connection:
        orders, users = await read_all(connection, "orders"), await read_all(connection, "users")
        wanted = expected(orders, users)
        for view in VIEWS:
            assert shown(view, await read_all(connection, view)) == wanted[view], view


async def request_rebuild(endpoint: str, chance: random.Random, number: int) -> None:
    """Ask for a rebuild of one of the views that workers have registered already."""
    known = await asyncio.to_thread(page, endpoint, "consumers")
    names = sorted(each["name"] for each in known["consumers"])
    if not names:
        return
    view = chance.choice(names)
    print(f"rebuild {view}")
    body = {
        "app": "faults", "name": view, "action": "request",
        "request": {"id": f"r{number}", "kind": "rebuild"},
    }  # fmt: skip
    await asyncio.to_thread(page, endpoint, "consumers/change", body)


def test_views_are_exact_whoever_is_killed(tmp_path, chance):
    ports = ["--port", str(free_port()), "--broker-port", str(free_port())]
    server = Server(tmp_path / "data", *ports).start()
    endpoint = server.endpoint
    workers = Workers(tmp_path, endpoint)
    load = Orders(endpoint, chance)

    async def run() -> None:
        await load.create()
        workers.start(0)
        workers.start(1)
        for first in range(0, KILLS, _ROUND):
            writing = [asyncio.create_task(load.run()) for _ in range(4)]
            for number in range(first, min(first + _ROUND, KILLS)):
                target = load.answered + chance.randint(50, 600)
                await until(partial(load.reached, target), "answers", 60)
                if chance.random() < 0.4 and number:
                    await request_rebuild(endpoint, chance, number)
                    await asyncio.sleep(chance.random())
                victim = chance.choice(["node", "worker", "both"])
                print(f"kill {number}: {victim}")
                which = chance.randrange(2)
                if victim != "node":
                    workers.kill(which)
                if victim != "worker":
                    server.kill()
                    await asyncio.to_thread(server.start)
                if victim != "node":
                    workers.start(which)
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
            await settled(endpoint, workers)
            await check(endpoint)
        print(f"{load.answered} writes")

    try:
        asyncio.run(run())
    finally:
        for each in list(workers.running):
            workers.kill(each)
        server.kill()
