"""An app in memory does what the app would do, so that a test of it is one line."""

import asyncio
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pydantic
import pytest

from streamtable import (
    App,
    Avg,
    Change,
    Count,
    Distinct,
    Max,
    Min,
    Refused,
    Replayer,
    Sum,
    TestApp,
    Top,
    Window,
)
from streamtable.cli.changes import change_json
from streamtable.consumers.views.mapping import MappingFailed
from streamtable.core.positions import Position
from streamtable.triggers import InvalidDeclaration, InvalidRecording, UnknownName
from streamtable.where import changed
from tests.support.changelog import change


class Order(pydantic.BaseModel):
    id: str
    status: str = "open"
    total: Decimal = Decimal(0)
    user: str | None = None
    day: str = "monday"


def names(found: TestApp, trigger: str = "handle") -> list[Any]:
    return [[each.keys["id"] for each in call.changes] for call in found.calls(trigger)]


def test_a_trigger_in_one_line() -> None:
    app = App("shop")

    @app.trigger("users", on="INSERT")
    async def welcome(change: Change) -> None: ...

    assert len(app.test().put("users", {"id": "u1", "name": "Ada"}).calls("welcome")) == 1


def test_events_and_images() -> None:
    app = App("shop")
    seen: list[Any] = []

    @app.trigger("users")
    def handle(change: Change) -> None:
        seen.append((change.event_name, change.old, change.new))

    test = app.test()
    test.put("users", {"id": "u1", "n": 1}).put("users", {"id": "u1", "n": 1})
    test.update("users", "u1", {"n": 2}).update("users", {"id": "u2"}, {"n": 5})
    test.remove("users", "u1").remove("users", "u1")
    one, two = {"id": "u1", "n": 1}, {"id": "u1", "n": 2}
    assert seen == [
        ("INSERT", None, one),
        ("MODIFY", one, two),
        ("INSERT", None, {"id": "u2", "n": 5}),
        ("REMOVE", two, None),
    ]
    assert test.items("users") == [{"id": "u2", "n": 5}]


def test_what_is_not_wanted_is_not_called_for() -> None:
    app = App("shop")

    @app.trigger("users", on="MODIFY", where=changed("n"))
    def handle(change: Change) -> None: ...

    test = app.test().put("users", {"id": "u1", "n": 1}).update("users", "u1", {"x": 1})
    assert test.calls() == []
    assert len(test.update("users", "u1", {"n": 2}).calls()) == 1


def test_a_failure_is_tried_again_and_then_given_up() -> None:
    app = App("shop")

    @app.trigger("users")
    def handle(change: Change) -> None:
        if change.keys["id"] == "poison":
            raise ValueError("no")

    test = app.test().put("users", {"id": "poison"}).put("users", {"id": "u1"})
    assert [failure.attempts for failure in test.failures] == [1, 2, 3]
    (letter,) = test.dead_letters
    assert (letter.consumer, letter.change.keys, letter.attempts) == ("handle", {"id": "poison"}, 3)
    assert isinstance(letter.error, ValueError)
    assert [change.keys["id"] for change in test.changes("handle")] == ["u1"]
    assert test.summary() == {
        "handle": {"calls": 4, "changes": 1, "failures": 3, "dead_letters": 1}
    }


def test_a_failure_that_passes() -> None:
    app = App("shop")
    tries = Counter[str]()

    @app.trigger("users", retries=5)
    def handle(change: Change) -> None:
        tries[change.keys["id"]] += 1
        assert change.attempts == tries[change.keys["id"]]
        if change.attempts < 4:
            raise ValueError("not yet")

    test = app.test().put("users", {"id": "u1"})
    assert len(test.failures) == 3
    assert test.dead_letters == []
    assert len(test.changes("handle")) == 1


def test_what_becomes_of_what_is_given_up() -> None:
    app = App("shop")
    lost: list[Any] = []

    def fail(change: Change) -> None:
        raise ValueError("no")

    app.trigger("users", name="drop", retries=0, on_failure="drop")(fail)
    app.trigger("users", name="tell", retries=0, on_failure=lambda c, e: lost.append((c.keys, e)))(
        fail
    )
    test = app.test().put("users", {"id": "u1"})
    assert test.dead_letters == []
    assert [(keys, str(error)) for keys, error in lost] == [({"id": "u1"}, "no")]


def test_an_item_that_does_not_fit_is_given_up_at_once() -> None:
    app = App("shop")

    @app.trigger("orders")
    def handle(changes: list[Change[Order]]) -> None: ...

    test = app.test().feed([change("a", new={"total": {"S": "x"}}, table="orders"), order("b")])
    assert names(test) == [["b"]]
    assert [letter.change.keys["id"] for letter in test.dead_letters] == ["a"]


def order(name: str, **attributes: Any) -> Any:
    return change(name, new=attributes, table="orders")


def test_batches() -> None:
    app = App("shop")

    @app.trigger("orders", batch_size=3)
    async def handle(changes: list[Change]) -> None: ...

    assert names(app.test().feed(order(str(n)) for n in range(7))) == [
        ["0", "1", "2"],
        ["3", "4", "5"],
        ["6"],
    ]


def test_a_batch_that_fails_is_taken_apart() -> None:
    app = App("shop")

    @app.trigger("orders", retries=1)
    def handle(changes: list[Change]) -> None:
        if any(change.keys["id"] == "2" for change in changes):
            raise ValueError("two")

    test = app.test().feed(order(str(n)) for n in range(4))
    assert [change.keys["id"] for change in test.changes("handle")] == ["0", "1", "3"]
    assert [letter.change.keys["id"] for letter in test.dead_letters] == ["2"]
    assert [failure.attempts for failure in test.failures] == [1, 2]


def test_a_batch_that_is_not_to_be_taken_apart() -> None:
    app = App("shop")

    @app.trigger("orders", retries=0, bisect=False)
    def handle(changes: list[Change]) -> None:
        raise ValueError("no")

    test = app.test().feed(order(str(n)) for n in range(3))
    assert len(test.calls()) == 1
    assert len(test.dead_letters) == 3


def test_a_partial_answer_holds_up_the_item_and_no_other() -> None:
    app = App("shop")
    tries = Counter[str]()

    @app.trigger("orders")
    def handle(changes: list[Change]) -> list[Change]:
        failed = [change for change in changes if change.keys["id"] == "a" and not tries["a"]]
        tries["a"] += 1
        return failed[:1]

    again = change("a", old={}, new={"n": {"N": "1"}}, table="orders")
    test = app.test().feed([order("a"), order("b"), again])
    assert names(test) == [["a", "b", "a"], ["a", "a"]]
    assert len(test.changes("handle")) == 3


def test_a_lambda_function_goes_on_at_its_checkpoint() -> None:
    app = App("shop")
    seen: list[list[str]] = []

    def handler(event: Any, context: Any) -> Any:
        records = event["Records"]
        seen.append([record["dynamodb"]["Keys"]["id"]["S"] for record in records])
        if len(seen) == 1:
            number = records[1]["dynamodb"]["SequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": number}]}
        return None

    app.lambda_trigger("orders", handler, name="handle")
    app.test().feed([order("a"), order("b"), order("c")])
    # What failed waits for its next try, and holds up no other item, as in a worker.
    assert seen == [["a", "b", "c"], ["c"], ["b"]]


def test_other_items_go_on_while_one_waits_however_often_it_fails() -> None:
    app = App("shop")

    @app.trigger("orders", retries=8, max_age_s=1, parallelism=2)
    async def handle(change: Change) -> None:
        if change.position.offset == 1 and change.attempts < 8:
            raise ValueError("not yet")

    again = change("a", old={}, new={"n": {"N": "1"}}, table="orders")
    test = app.test().feed([order("a"), order("b"), again, order("c")])
    assert [name for (name,) in names(test)] == ["a", "b", "c", *["a"] * 8]
    assert [failure.attempts for failure in test.failures] == [*range(1, 8)]
    assert test.dead_letters == []


def test_what_is_to_be_told_of_a_loss_and_fails_keeps_it() -> None:
    app = App("shop")

    def tell(change: Change, error: BaseException) -> None:
        raise OSError("nobody listens")

    @app.trigger("orders", retries=0, on_failure=tell)
    def handle(change: Change) -> None:
        raise ValueError("no")

    assert len(app.test().put("orders", {"id": "o1"}).dead_letters) == 1


def test_windows() -> None:
    app = App("shop")
    seen: list[Any] = []

    @app.trigger("orders", tumbling_window_s=60)
    def handle(changes: list[Change], window: Window) -> None:
        window.state["n"] = window.state.get("n", 0) + len(changes)
        if window.is_final:
            seen.append((window.start.minute, window.state["n"]))

    made = [order(str(n)) for n in range(5)]
    for each, minute in zip(made, (1, 1, 1, 2, 2), strict=True):
        each.created_ms = minute * 60_000 + 5
    test = app.test().feed(made[:2]).feed(made[2:])
    assert seen == [(1, 3)]
    test.close_windows()
    assert seen == [(1, 3), (2, 2)]


def test_views_follow_and_are_followed() -> None:
    app = App("shop")
    seen: list[Any] = []

    @app.view("orders_by_status", source="orders", key=("status", "id"))
    def by_status(item: Order) -> Any:
        return {"status": item.status, "id": item.id} if item.status != "hidden" else None

    @app.aggregate(
        "status_counts", source="orders_by_status", key="status", measures={"n": Count()}
    )
    def count(row: dict) -> dict:  # type: ignore[type-arg]
        return row

    @app.trigger("status_counts")
    def handle(change: Change) -> None:
        seen.append((change.event_name, change.keys["status"], change.new and change.new["n"]))

    test = app.test().put("orders", Order(id="o1")).put("orders", Order(id="o2"))
    test.update("orders", "o1", {"status": "paid"}).update("orders", "o2", {"status": "hidden"})
    assert test.view("orders_by_status").items() == [{"status": "paid", "id": "o1"}]
    assert test.view("orders_by_status").get("paid", "o1") == {"status": "paid", "id": "o1"}
    assert test.view("orders_by_status").get("open", "o1") is None
    assert test.view("status_counts").items() == [{"status": "paid", "n": 1}]
    assert seen == [
        ("INSERT", "open", 1),
        ("MODIFY", "open", 2),
        ("MODIFY", "open", 1),
        ("INSERT", "paid", 1),
        ("REMOVE", "open", None),
    ]


def test_an_aggregate_is_what_a_computation_says() -> None:
    app = App("shop")
    measures = {
        "n": Count(),
        "sum": Sum("total"),
        "mean": Avg("total"),
        "least": Min("total"),
        "most": Max("total"),
        "users": Distinct("user"),
        "best": Top(2, by="total", show=("total",)),
    }

    @app.aggregate("by_day", source="orders", key="day", measures=measures)  # type: ignore[arg-type]
    def by_day(item: Order) -> Order:
        return item

    test = app.test()
    seeded = random.Random(5)
    orders: dict[str, Order] = {}
    for _ in range(300):
        name = str(seeded.randint(0, 30))
        if name in orders and seeded.random() < 0.3:
            del orders[name]
            test.remove("orders", name)
            continue
        orders[name] = Order(
            id=name,
            day=seeded.choice(["monday", "tuesday"]),
            total=Decimal(seeded.randint(0, 9)),
            user=seeded.choice(["ada", "bob", "eve"]),
        )
        test.put("orders", orders[name])
    for day in ("monday", "tuesday"):
        those = [each for each in orders.values() if each.day == day]
        totals = sorted((each.total for each in those), reverse=True)
        row = test.view("by_day").get(day)
        assert row is not None
        assert row.pop("mean") == pytest.approx(sum(totals) / len(totals))
        assert row == {
            "day": day,
            "n": len(those),
            "sum": sum(totals),
            "least": totals[-1],
            "most": totals[0],
            "users": len({each.user for each in those}),
            "best": [{"total": total} for total in totals[:2]],
        }


@pytest.mark.parametrize("kind", ["inner", "left"])
def test_a_join_is_what_a_computation_says(kind: Any) -> None:
    app = App("shop")

    @app.join(
        "joined", left="orders", right="users", on=("user", "id"), key=("id", "user"), kind=kind
    )
    def joined(order: Order, user: dict | None) -> dict:  # type: ignore[type-arg]
        return {"id": order.id, "user": order.user or "-", "name": user and user["name"]}

    test = app.test()
    seeded = random.Random(5)
    orders: dict[str, dict[str, Any]] = {}
    users: dict[str, dict[str, Any]] = {}
    for _ in range(300):
        table, known = seeded.choice([("orders", orders), ("users", users)])
        name = str(seeded.randint(0, 5))
        if name in known and seeded.random() < 0.4:
            del known[name]
            test.remove(table, name)
            continue
        known[name] = {"id": name, "name": seeded.choice("abc")}
        if table == "orders" and seeded.random() < 0.8:
            known[name]["user"] = str(seeded.randint(0, 5))
        test.put(table, known[name])
        expected = []
        for each in sorted(orders.values(), key=lambda order: order["id"]):
            user = users.get(each.get("user", ""))
            if user is not None or kind == "left":
                meets = each.get("user", "-")
                expected.append({"id": each["id"], "user": meets, "name": user and user["name"]})
        assert sorted(test.view("joined").items(), key=lambda row: row["id"]) == expected


def test_a_join_that_could_lose_rows_stops_in_a_test_too() -> None:
    app = App("shop")
    app.join("joined", left="orders", right="users", on=("user", "id"), key="id")(
        lambda order, user: {"id": order["id"], "name": user["name"]}
    )
    test = app.test().put("users", {"id": "u1", "name": "Ada"})
    with pytest.raises(MappingFailed, match="has not the join value, user of orders, in its key"):
        test.put("orders", {"id": "o1", "user": "u1"})


def test_pairs_with_the_same_key_are_an_error() -> None:
    app = App("shop")
    app.join("joined", left="orders", right="users", on="day", key="day")(
        lambda order, user: {"day": "x"}
    )
    test = app.test().put("users", {"id": "u1", "day": "x"}).put("users", {"id": "u2", "day": "x"})
    with pytest.raises(MappingFailed, match="two pairs have a row with the key"):
        test.put("orders", {"id": "o1", "day": "x"})


def test_a_view_that_fails_says_so() -> None:
    app = App("shop")
    app.view("stops", source="orders", key="id")(lambda item: 5)
    with pytest.raises(MappingFailed, match="a row is a dict or a model"):
        app.test().put("orders", {"id": "o1"})

    app = App("shop")
    app.view("goes_on", source="orders", key="id", on_error="deadletter")(lambda item: 5)
    test = app.test().put("orders", {"id": "o1"})
    assert [letter.consumer for letter in test.dead_letters] == ["goes_on"]
    assert test.view("goes_on").items() == []


def test_searches() -> None:
    app = App("shop")

    @app.search("products")
    def product(item: dict) -> dict | None:  # type: ignore[type-arg]
        return {"name": item["name"]} if item["name"] else None

    test = app.test().put("products", {"id": "p1", "name": "Tea"})
    test.put("products", {"id": "p2", "name": "Cup"}).put("products", {"id": "p3", "name": ""})
    assert test.documents("products") == [{"name": "Tea"}, {"name": "Cup"}]
    test.remove("products", "p1").put("products", {"id": "p2"})
    assert test.documents("products") == [{"name": "Cup"}]
    assert [letter.consumer for letter in test.dead_letters] == ["products"]


def test_checks_refuse() -> None:
    app = App("shop")

    @app.check("orders")
    def positive(old: Order | None, new: Order | None) -> None:
        if new is not None and new.total < 0:
            raise Refused("an order's total is not negative")

    test = app.test().put("orders", {"id": "o1", "total": 1})
    with pytest.raises(Refused, match="is not negative"):
        test.update("orders", "o1", {"total": -1})
    assert test.items("orders") == [{"id": "o1", "total": 1}]
    test.feed([order("o2", total={"N": "-1"})])
    assert len(test.items("orders")) == 2


def test_schedules() -> None:
    app = App("shop")
    seen: list[Any] = []

    @app.every(60)
    async def tick(due: Any) -> None:
        seen.append(due)

    app.test().run_schedule("tick")
    assert len(seen) == 1


def test_what_expired() -> None:
    app = App("shop")
    seen: list[bool] = []

    @app.trigger("users", on="REMOVE")
    def handle(change: Change) -> None:
        seen.append(change.expired)

    test = app.test().put("users", {"id": "u1"}).put("users", {"id": "u2"})
    test.remove("users", "u1").remove("users", "u2", expired=True)
    assert seen == [False, True]


def test_keys_of_other_names() -> None:
    app = App("shop")

    @app.trigger("orders")
    def handle(change: Change) -> None: ...

    test = app.test(keys={"orders": ("user", "number")})
    test.put("orders", {"user": "u1", "number": 1}).remove("orders", ("u1", 1))
    assert [change.keys for change in test.changes("handle")] == [{"user": "u1", "number": 1}] * 2
    with pytest.raises(InvalidDeclaration, match=r"say what the table's key is"):
        app.test().put("orders", {"user": "u1"})
    with pytest.raises(InvalidDeclaration, match="has the attributes user, number"):
        test.remove("orders", "u1")


def test_names_that_there_are_not() -> None:
    app = App("shop")
    app.trigger("users", name="welcome")(lambda change: None)
    test = app.test()
    with pytest.raises(UnknownName, match="the app has no trigger 'hello'; it has welcome"):
        test.calls("hello")
    with pytest.raises(UnknownName, match="the app has no view 'hello'; it has none"):
        test.view("hello")


def test_a_view_is_only_read_and_by_its_whole_key() -> None:
    app = App("shop")
    app.view("by_status", source="orders", key=("status", "id"))(lambda order: order)
    test = app.test().put("orders", {"id": "o1", "status": "open"})
    with pytest.raises(InvalidDeclaration, match="by_status is a view, which can only be read"):
        test.put("by_status", {"id": "o1", "status": "open"})
    with pytest.raises(InvalidDeclaration, match="the key of by_status has status, id"):
        test.view("by_status").get("open")
    assert test.view("by_status").get("open", "o1") == {"id": "o1", "status": "open"}


async def test_in_an_async_test_too() -> None:
    app = App("shop")

    @app.trigger("users")
    async def handle(change: Change) -> None:
        await asyncio.sleep(0)

    assert len(app.test().put("users", {"id": "u1"}).changes("handle")) == 1


def recording(path: Path) -> Path:
    """Write what `streamtable log tail --json` prints."""
    made = [
        (order("o1", total={"N": "5"}), Position(1, 10, 0)),
        (order("o2", total={"N": "7"}), Position(0, 3, 0)),
        (
            change(
                "o1", old={"total": {"N": "5"}}, new={"total": {"N": "6"}}, table="orders", time=2
            ),
            Position(1, 10, 1),
        ),
    ]
    path.write_text("\n".join(change_json(each, position) for each, position in made) + "\n\n")
    return path


def test_recorded_changes_run_against_new_code(tmp_path: Path) -> None:
    app = App("shop")

    @app.trigger("orders")
    def handle(changes: list[Change[Order]]) -> None:
        for each in changes:
            if each.new and each.new.total == 7:
                raise ValueError("seven")

    @app.aggregate("totals", source="orders", key="day", measures={"sum": Sum("total")})
    def totals(item: dict) -> dict:  # type: ignore[type-arg]
        return {"day": "all", "total": item["total"]}

    done = Replayer(app).replay(recording(tmp_path / "changes.ndjson"))
    assert names(done) == [["o1", "o1"], ["o2"]]
    assert [change.position for change in done.changes("handle")] == [
        Position(1, 10, 0),
        Position(1, 10, 1),
    ]
    assert done.summary()["handle"] == {
        "calls": 2,
        "changes": 2,
        "failures": 1,
        "dead_letters": 1,
    }
    assert done.view("totals").items() == [{"day": "all", "sum": 13}]
    lines = (tmp_path / "changes.ndjson").read_text().splitlines()
    for again in (lines, [orjson.loads(line) for line in lines if line]):
        assert Replayer(app).replay(again).summary() == done.summary()


def test_recorded_rows_of_views_that_the_app_makes_come_once() -> None:
    app = App("shop")
    app.view("open_orders", source="orders", key="id")(lambda item: item)
    app.trigger("open_orders", name="handle")(lambda change: None)
    made, row = order("o1"), change("o1", table="open_orders")
    assert names(Replayer(app).replay([made, row])) == [["o1"]]
    assert names(Replayer(app).replay([row])) == [["o1"]]


def test_items_that_are_older_than_the_recording_are_taken_back() -> None:
    app = App("shop")
    measures: dict[str, Any] = {"n": Count(), "largest": Max("total")}

    @app.aggregate("totals", source="orders", key="day", measures=measures)
    def totals(item: dict) -> dict:  # type: ignore[type-arg]
        return {"day": "all", "total": item["total"]}

    app.trigger("totals", name="handle")(lambda change: None)
    changed = change("o1", old={"total": {"N": "9"}}, new={"total": {"N": "2"}}, table="orders")
    gone = change("o2", old={"total": {"N": "5"}}, new=None, table="orders")
    done = Replayer(app).replay([changed, gone])
    assert done.view("totals").items() == [{"day": "all", "n": 1, "largest": 2}]
    # What was before is no change.
    assert [each.event_name for each in done.changes("handle")] == ["MODIFY", "MODIFY"]


def test_changes_written_by_hand() -> None:
    app = App("shop")
    app.trigger("orders", name="handle")(lambda change: None)
    line = {
        "shard": 0,
        "offset": 1,
        "index": 0,
        "table": "orders",
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": 0,
            "Keys": {"id": {"S": "o1"}},
            "NewImage": {"id": {"S": "o1"}},
        },
    }
    assert names(Replayer(app).replay([line])) == [["o1"]]


@pytest.mark.parametrize("line", ["{", "5", "{}", '{"shard": 0, "offset": 1, "index": 0}', "null"])
def test_a_line_that_is_no_change_is_named(line: str) -> None:
    with pytest.raises(InvalidRecording, match="line 2 is no change"):
        Replayer(App("shop")).replay(["", line])
