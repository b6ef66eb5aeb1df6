"""`streamtable worker` as a process of its own, running the code of a test."""

import json
import os
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.commands import BIN, Background
from tests.support.waiting import wait_until

__all__ = ["FOLLOW", "Worker", "create_table", "put"]

HEADER = """
import asyncio, os, time
from pathlib import Path
from pydantic import BaseModel
from streamtable import App, Change

TABLE = os.environ["TABLE"]
OUT = Path(os.environ["OUT"])
app = App(os.environ["APP"])

def note(*words):
    with OUT.open("a") as out:
        print(*words, file=out)
"""

FOLLOW = """
@app.trigger(TABLE)
async def follow(change: Change) -> None:
    note(change.event_name, change.keys["id"])
"""


class Worker:
    """A worker that runs the code of a test, and what that has noted.

    The app's name is `app-TABLE`.
    """

    def __init__(self, folder: Path, endpoint: str, table: str, code: str) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.table = table
        self.app = f"app-{table}"
        self._starts = 0
        self._out = folder / "noted"
        self._file = folder / "triggers.py"
        self.change_code(code)
        self._environment = {
            **os.environ,
            "TABLE": table,
            "OUT": str(self._out),
            "APP": self.app,
            "PYTHONUNBUFFERED": "1",
        }

    def change_code(self, code: str) -> None:
        """Have the next start run other code."""
        # In one step: a worker that looks for changes would run a file that is half written.
        written = self._file.with_suffix(".new")
        written.write_text(HEADER + textwrap.dedent(code))
        written.replace(self._file)

    def start(self, *options: str, app: bool = True) -> Background:
        """Start the worker; `app=False` leaves the app to the options."""
        self._starts += 1
        what = [f"{self._file}:app"] if app else []
        return Background(
            [
                *[str(BIN / "streamtable"), "worker", *what],
                *["--endpoint", self.endpoint, *options],
            ],
            self.folder / f"worker-{self._starts}.log",
            env=self._environment,
            cwd=self.folder,
        )

    def noted(self) -> list[str]:
        """Return the lines noted so far."""
        return self._out.read_text().splitlines() if self._out.exists() else []

    def ask(self, path: str) -> Any:
        """Return what the node says on one of its own pages."""
        url = f"{self.endpoint}/_streamtable/{path}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)

    def consumer(self, name: str) -> dict[str, Any]:
        """Return what the node says of one of the app's consumers."""
        found: dict[str, Any] = self.ask(f"consumers?consumer={self.app}/{name}")["consumers"][0]
        return found

    def letters(self) -> list[dict[str, Any]]:
        """Return the open dead letters of the app."""
        return [each for each in self.ask("deadletters")["letters"] if each["app"] == self.app]

    def wait_noted(self, count: int, timeout_s: float = 60) -> list[str]:
        """Return the lines noted as soon as there are so many."""
        wait_until(lambda: len(self.noted()) >= count, f"{count} lines", timeout_s)
        return self.noted()


def create_table(client: Any, name: str) -> None:
    """Create a table with the partition key `id`, a string."""
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )


def put(client: Any, table: str, key: str, **attributes: Any) -> None:
    """Put an item."""
    client.put_item(TableName=table, Item={"id": {"S": key}, **attributes})
