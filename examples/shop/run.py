"""Runs the shop beside a running node: its tables, its worker, and traffic. Ctrl-C stops all."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

from botocore.exceptions import BotoCoreError, ClientError

from common import ENDPOINT, dynamodb, say

HERE: Final = Path(__file__).resolve().parent
ELASTICSEARCH: Final = "http://127.0.0.1:9200"
TABLES: Final = {
    "users": ("id",),
    "products": ("id",),
    "orders": ("order_id",),
    "audit": ("order_id", "position"),
}


def main() -> int:
    """Run everything; return the exit code of what ended first, 0 on Ctrl-C."""
    try:
        wait_for_node()
        create_tables()
    except KeyboardInterrupt:
        return 0
    streamtable = [sys.executable, "-m", "streamtable"]
    worker = [*streamtable, "worker", f"{HERE / 'app.py'}:app", "--endpoint", ENDPOINT]
    environment = {**os.environ, "STREAMTABLE_ENDPOINT": ENDPOINT, "PYTHONUNBUFFERED": "1"}
    find_elasticsearch(environment)
    # Ctrl-C reaches them too: they belong to the same terminal.
    parts = [
        subprocess.Popen(worker, env=environment),
        subprocess.Popen([sys.executable, str(HERE / "traffic.py")], env=environment),
    ]
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    code = 0
    try:
        while all(part.poll() is None for part in parts):
            time.sleep(0.2)
        code = next(part.returncode for part in parts if part.poll() is not None)
    except KeyboardInterrupt:
        pass
    # Make and the terminal may both have sent a signal: one is enough.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for part in parts:
        if part.poll() is None:
            part.send_signal(signal.SIGTERM)
    for part in parts:
        part.wait()
    return code


def wait_for_node() -> None:
    """Wait until a node answers."""
    said = False
    while True:
        try:
            dynamodb().list_tables()
        except (BotoCoreError, ClientError):
            if not said:
                say("shop", f"no node answers at {ENDPOINT}: start one with `make run`. Waiting")
            said = True
            time.sleep(1)
        else:
            return


def create_tables() -> None:
    """Create those tables that are not there yet."""
    for name, keys in TABLES.items():
        try:
            dynamodb().create_table(
                TableName=name,
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind}
                    for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
                BillingMode="PAY_PER_REQUEST",
            )
        except dynamodb().exceptions.ResourceInUseException:
            continue
        dynamodb().get_waiter("table_exists").wait(TableName=name)
        say("shop", f"created the table {name}")


def find_elasticsearch(environment: dict[str, str]) -> None:
    """Name Elasticsearch in the worker's environment if one answers."""
    url = environment.pop("STREAMTABLE_ELASTICSEARCH", ELASTICSEARCH)
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - the user's own address
            pass
    except HTTPError:
        pass  # also a refusal is an answer
    except (OSError, ValueError):
        say("shop", f"no Elasticsearch answers at {url}: the product search is left out")
        return
    if find_spec("elasticsearch") is None:
        say("shop", "the product search is left out: it needs `pip install streamtable[search]`")
        return
    environment["STREAMTABLE_ELASTICSEARCH"] = url
    say("shop", f"products are searched in Elasticsearch: {url}/products/_search?q=teapot")


if __name__ == "__main__":
    sys.exit(main())
