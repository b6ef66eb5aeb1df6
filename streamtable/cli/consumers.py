"""What the commands on triggers, views and searches share: finding one, and showing them."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamtable.cli.output import Failure, LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal
from streamtable.triggers.endpoint import Endpoint

__all__ = [
    "change",
    "check_at_work",
    "consumers",
    "find",
    "lag_table",
    "list_consumers",
    "show_consumers",
    "until_stopped",
]

_PATH: Final = "/_streamtable/consumers"
_LEAST_WIDTH: Final = 110
_LOOK_S: Final = 0.1
# A node waits that long for the end of a worker that died, with something to spare.
_CHANGE_S: Final = 20.0
_MOST_NAMED: Final = 20
_STYLES: Final = {"running": "green", "building": "green", "stopped": "red", "paused": "yellow"}


async def consumers(node: Endpoint) -> list[dict[str, Any]]:
    """Return every consumer that the node knows, with where it stands.

    Raises:
        NodeUnavailable: no node answers.
    """
    found: list[dict[str, Any]] = (await node.get(_PATH))["consumers"]
    return found


def list_consumers(endpoint: str, kind: str | None, noun: str, *, as_json: bool) -> None:
    """Print where the consumers of a kind stand; None for all kinds.

    Args:
        endpoint: the node's URL.
        kind: trigger, view or search.
        noun: what one of them is called.
        as_json: print JSON.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        async with Endpoint(endpoint) as node:
            found = [each for each in await consumers(node) if kind in {None, each["kind"]}]
        if as_json:
            stdout().print_json(data=found)
        elif found:
            show_consumers(found)
        else:
            print_line(f"no worker has registered a {noun} yet")

    run_until_signal(run())


async def find(node: Endpoint, name: str, kind: str | None = None) -> dict[str, Any]:
    """Return the consumer of that name, `APP/NAME` or `NAME`.

    Args:
        node: the node.
        name: the name.
        kind: trigger, view or search; what it must be, None for any of them.

    Raises:
        Failure: there is none, or several, or it is of another kind.
    """
    known = await consumers(node)
    named = [each for each in known if name in {each["key"], each["name"]}]
    chosen = [each for each in named if kind in {None, each["kind"]}]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        keys = ", ".join(each["key"] for each in chosen)
        raise Failure(f"{name} is the name of several: say which one, {keys}")
    if named:
        raise Failure(f"{named[0]['key']} is a {named[0]['kind']}, no {kind}")
    others = [each["key"] for each in known if kind in {None, each["kind"]}]
    if not others:
        raise Failure(f"there is no {name}")
    shown = ", ".join(others[:_MOST_NAMED])
    more = len(others) - _MOST_NAMED
    raise Failure(f"there is no {name}; there is {shown}{f' and {more} more' if more > 0 else ''}")


def check_at_work(consumer: Mapping[str, Any]) -> None:
    """Check that somebody would do what a consumer is asked for.

    Raises:
        Failure: it is paused, it has stopped, or no worker runs it.
    """
    key = consumer["key"]
    if consumer["paused"]:
        why = f"{key} is paused: streamtable triggers resume {key}"
    elif consumer["state"] == "stopped":
        why = f"{key} has stopped: {consumer['error']}. Start its worker again"
    elif not consumer["workers"]:
        why = f"no worker runs {key}: start one"
    else:
        return
    raise Failure(f"{why}. Or only ask for it now, --no-wait: it is done when it goes on")


async def change(
    node: Endpoint, consumer: Mapping[str, Any], action: str, **more: Any
) -> dict[str, Any]:
    """Have the node change a consumer; see `streamtable.control.bodies.Change`."""
    body = {"app": consumer["app"], "name": consumer["name"], "action": action, **more}
    return await node.post(f"{_PATH}/change", body, timeout_s=_CHANGE_S)


async def until_stopped(node: Endpoint, consumer: Mapping[str, Any], limit_s: float) -> None:
    """Wait until no worker runs a consumer that was paused.

    Raises:
        Failure: one still does.
    """
    deadline = time.monotonic() + limit_s
    while True:
        [found] = (await node.get(_PATH, {"consumer": consumer["key"]}))["consumers"]
        if found["state"] != "pausing":
            return
        if time.monotonic() > deadline:
            raise Failure(
                f"{consumer['key']} still runs after {limit_s:g} s: a function that runs is waited "
                f"for. It is paused as soon as that ends (at {', '.join(found['workers'])})"
            )
        await asyncio.sleep(_LOOK_S)


def show_consumers(found: Iterable[Mapping[str, Any]]) -> None:
    """Print where consumers stand, a line each."""
    table = _table("name", "state", "position", "lag", "behind", "retrying", "parked", "workers")
    for each in found:
        table.add_row(
            each["key"],
            *_standing(each),
            str(each["retrying"]),
            str(each["parked"]),
            str(len(each["workers"])),
        )
    _widen().print(table)
    for each in found:
        if each["error"]:
            stdout().print(f"{each['key']}: {each['error']}")


def lag_table(found: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of how far consumers are behind, a line each."""
    table = _table("name", "kind", "state", "position", "lag", "behind", "parked")
    for each in found:
        table.add_row(
            each["key"],
            each["kind"],
            *_standing(each),
            str(each["parked"]),
        )
    _widen()
    return table


def _widen() -> Console:
    console = stdout()
    console.width = max(console.width, _LEAST_WIDTH)
    return console


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        numeric = name in {"lag", "behind", "retrying", "parked", "workers"}
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name != "position")
    return table


def _standing(consumer: Mapping[str, Any]) -> tuple[Text, str, str, str]:
    """Return the cells state, position, lag and behind."""
    shards = consumer["shards"].items()
    return (
        _state(consumer["state"]),
        " ".join(f"{shard}/{at['next']}" for shard, at in shards) or "-",
        str(consumer["lag"]),
        _age(consumer["lag_s"]),
    )


def _state(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, ""))


def _age(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=int(seconds)))
