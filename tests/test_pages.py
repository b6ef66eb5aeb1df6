"""What the pages in docs/ state in figures and examples, held against the code."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamtable.core.changes import change_from_json, change_to_json
from streamtable.core.values import item_size
from streamtable.streams.broker import fetches, produces
from streamtable.streams.broker.messages import MESSAGES

DOCS = Path(__file__).parents[1] / "docs"


def test_the_embedded_brokers_apis_and_their_versions():
    page = (DOCS / "embedded-broker.md").read_text()
    documented = {
        name: (int(first), int(last or first))
        for name, first, last in re.findall(
            r"^\| (\w+) \| (\d+)(?: to (\d+))? \|$", page, re.MULTILINE
        )
    }
    spoken = {message.name: (message.first, message.last) for message in MESSAGES.values()}
    spoken["Produce"] = (produces.FIRST_VERSION, produces.LAST_VERSION)
    spoken["Fetch"] = (fetches.FIRST_VERSION, fetches.LAST_VERSION)
    assert documented == spoken


def test_the_change_that_is_shown_is_one_that_the_log_has():
    page = (DOCS / "architecture.md").read_text()
    (text,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    shown = json.loads(text)
    change = change_from_json(shown)
    assert set(change_to_json(change)) == set(shown)
    assert change.old is not None
    assert change.new is not None
    assert item_size(change.new.item) == shown["newSize"]
    assert item_size(change.old.item) == shown["oldSize"]


@pytest.mark.parametrize("name", ["checks", "search", "testing", "triggers", "views"])
def test_the_python_on_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "changes.ndjson").touch()
    page = (DOCS / f"{name}.md").read_text()
    names: dict[str, Any] = {"__name__": name}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page, re.DOTALL)):
        exec(compile(block, f"docs/{name}.md, example {number}", "exec"), names)
    assert names["app"].test() is not None
    for each in [each for each in names if each.startswith("test_")]:
        names[each]()
