"""`streamtable log why`: what happened to one item, as people and programs read it."""

import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import orjson
from rich.text import Text

from streamtable.cli.changes import change_text
from streamtable.cli.output import Failure, print_line, stdout
from streamtable.core.changes import change_from_json
from streamtable.core.positions import Position
from streamtable.triggers.endpoint import Endpoint, NodeError

__all__ = ["explain", "print_json", "print_text"]

_PATH: Final = "/_streamtable/why"
_STYLES: Final = {
    "done": "green",
    "filtered": "dim",
    "before its start": "dim",
    "not there yet": "yellow",
    "retrying": "yellow",
    "parked": "yellow",
    "dead letter": "red",
}
_STATES: Final = {
    "stopped": "it has stopped",
    "waiting": "it waits",
    "no worker": "no worker runs it",
}
# A search that goes on for longer is told about.
_SAY_S: Final = 1.0


async def explain(
    node: Endpoint, table: str, key: str, since_ms: int
) -> AsyncIterator[dict[str, Any]]:
    """Yield each change of an item, as the node's page tells it.

    Raises:
        Failure: the node can't tell; the text says why.
        NodeUnavailable: no node answers.
    """
    asked = {"table": table, "key": key, "since_ms": str(since_ms)}
    query = asked
    said = time.monotonic()
    while True:
        try:
            page = await node.get(_PATH, query)
        except NodeError as error:
            raise Failure(error.message) from error
        for change in page["changes"]:
            yield change
        if page["next"] >= page["end"] or page["next"] <= page["from"]:
            if page["then"] is None:
                return
            query = {**asked, "shard": str(page["then"])}
            continue
        if time.monotonic() - said > _SAY_S:
            said = time.monotonic()
            print_line(f"{page['end'] - page['next']} records left to look through")
        query = {**asked, "shard": str(page["shard"]), "from": str(page["next"])}


def print_json(change: dict[str, Any]) -> None:
    """Print a change as one line of JSON."""
    print(orjson.dumps(change).decode(), flush=True)  # noqa: T201 - the command's result


def print_text(change: dict[str, Any]) -> None:
    """Print a change for a person: what it was, who asked for it, what became of it."""
    parsed = change_from_json(change)
    position = Position(change["shard"], change["offset"], change["index"])
    text = change_text(parsed, position)
    if parsed.service is None:
        text.append(f"\n    by {parsed.principal}, request {parsed.request_id}", "dim")
    else:
        text.append(f"\n    by {parsed.service}: its time to live was over", "dim")
    consumers = change["consumers"]
    width = max((len(each["consumer"]) for each in consumers), default=0)
    for each in consumers:
        text.append(f"\n    {each['consumer']:{width}}  {each['kind']:7}  ")
        text.append_text(_outcome(each))
    stdout().print(text)


def _outcome(found: dict[str, Any]) -> Text:
    outcome = found["outcome"]
    text = Text(outcome, _STYLES.get(outcome, ""))
    if found.get("paused"):
        text.append(", it is paused")
    elif "state" in found:
        text.append(f", {_STATES[found['state']]}")
    if "attempts" in found:
        attempts = found["attempts"]
        text.append(f", {attempts} attempt{'' if attempts == 1 else 's'}")
    if "next_ms" in found:
        at = datetime.fromtimestamp(found["next_ms"] / 1000).astimezone()
        text.append(f", next {at:%H:%M:%S}")
    if "error" in found:
        text.append(f": {_error(found['error'])}")
    if "id" in found:
        text.append(f" ({found['id']})")
    return text


def _error(error: Any) -> str:
    """Return an error in a line: it is a text, or has a type and a message."""
    if isinstance(error, dict):
        error = f"{error.get('type', 'Error')}: {error.get('message', '')}"
    return str(error).partition("\n")[0]
