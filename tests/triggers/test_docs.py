"""The code in the pages on what an app declares, and on testing it, runs as it is printed."""

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from streamtable import App
from streamtable.cli.changes import change_json
from streamtable.core.plain import wire_item
from streamtable.core.positions import Position
from streamtable.triggers import Change, LocalStore
from streamtable.triggers.measures import Measure
from tests.support.changelog import change

DOCS = Path(__file__).parents[2] / "docs"


def run(page: str) -> dict[str, Any]:
    """Run a page's Python, one block after the other, in one module."""
    text = (DOCS / page).read_text()
    names: dict[str, Any] = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_triggers(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("triggers.md")
    app: App = names["app"]
    with_orders = app.test(keys={"orders": "order_id"})
    with_orders.put("users", {"id": "u1", "name": "Ada", "email": "ada@example.com"})
    with_orders.put("orders", {"order_id": "o1", "status": "paid", "total": 120})
    with_orders.close_windows()
    told = capsys.readouterr().out
    assert "Subject: Welcome, Ada!" in told
    assert "order o1 is paid" in told
    assert "INSERT {'order_id': {'S': 'o1'}}" in told
    assert with_orders.failures == []
    store: LocalStore = names["store"]
    assert store.get("total") == 120
    store.close()


def test_every_option_of_a_trigger_is_told_of() -> None:
    page = (DOCS / "triggers.md").read_text()
    options = [*inspect.signature(App.trigger).parameters][2:]
    assert [name for name in options if f"`{name}" not in page and f"{name}=" not in page] == []


def test_every_attribute_of_a_change_is_told_of() -> None:
    page = (DOCS / "triggers.md").read_text()
    public = [name for name in Change.__dataclass_fields__ if not name.startswith("_")]
    assert [name for name in public if f"| `{name}" not in page] == []
    assert get_args(Change[Any])


def test_testing(tmp_path: Path) -> None:
    made = change("o1", new=wire_item({"status": "open"}), table="orders")
    (tmp_path / "changes.ndjson").write_text(change_json(made, Position(0, 1, 0)))
    names = run("testing.md")
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 4
    for name in tests:
        names[name]()


def test_views() -> None:
    test = run("views.md")["app"].test(keys={"lines": ("order", "number")})
    order = {"id": "o1", "user": "u1", "status": "paid", "total": 5, "placed_at": "2026-03-01"}
    test.put("users", {"id": "u1", "name": "Ada"})
    test.put("orders", {**order, "lines": [{"sku": "tea", "price": 5}]})
    assert test.view("revenue_by_day").get("2026-03-01")["largest"] == 5
    assert test.view("orders_of_users").get("u1", "o1")["name"] == "Ada"
    assert test.view("lines").get("o1", 0)["sku"] == "tea"


@pytest.mark.parametrize("page", ["checks.md", "search.md"])
def test_what_else_an_app_declares(page: str) -> None:
    assert isinstance(run(page)["app"], App)


def test_every_option_of_a_view_and_every_measure_is_told_of() -> None:
    page = (DOCS / "views.md").read_text()
    for declare in (App.view, App.aggregate, App.join):
        options = [*inspect.signature(declare).parameters][2:]
        told = [name for name in options if f"`{name}" in page or f"{name}=" in page]
        assert told == options
    assert [each.__name__ for each in get_args(Measure) if f"`{each.__name__}(" not in page] == []


def test_every_method_for_tests_is_told_of() -> None:
    page = (DOCS / "testing.md").read_text()
    test = App("shop").test()
    public = [name for name in dir(test) if not name.startswith("_")]
    assert [name for name in public if f"`{name}" not in page] == []
