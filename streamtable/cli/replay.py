"""`streamtable replay`: has a trigger, a view or a search go through a part of the log again."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption
from streamtable.cli.output import Failure, LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

if TYPE_CHECKING:
    from streamtable.triggers.endpoint import Endpoint

__all__ = ["replay"]

_CONSUMERS: Final = "/_streamtable/consumers"
_LOOK_S: Final = 0.2
_STOP_S: Final = 60.0


def replay(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="APP/NAME, or NAME where only one app has it.")
    ],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="START",
            help="A time (2026-11-23T12:00:00Z, or seconds since 1970); for triggers also "
            "TRIM_HORIZON or a position (shard/offset).",
        ),
    ],
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show the progress until it is caught up.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Have changes that were made since then come again.

    A trigger is set back: its function is called again for all of them. A view is built anew
    from its sources as they were then, and a search index from its table's rows.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.consumers import find
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await _replay(node, await find(node, name), start, wait=wait)
        if as_json:
            stdout().print_json(data=found)
        else:
            print_line(f"{found['key']} {'has gone' if wait else 'goes'} through it from {start}")

    run_until_signal(run())


async def _replay(
    node: "Endpoint", found: Mapping[str, Any], start: str, *, wait: bool
) -> dict[str, Any]:
    from streamtable.cli.consumers import check_at_work
    from streamtable.cli.rebuilds import rebuild
    from streamtable.cli.triggers import reset_trigger
    from streamtable.cli.views import rebuild_view, time_ms

    if found["kind"] == "view":
        return await rebuild_view(node, found["key"], time_ms("--from", start), wait=wait)
    if found["kind"] == "search":
        return await rebuild(node, "search", found["key"], wait=wait)
    if wait:
        check_at_work(found)
    document = await reset_trigger(node, found, start, _STOP_S)
    if not wait:
        return {**found, **document}
    return await _watch(node, found["key"])


async def _watch(node: "Endpoint", key: str) -> dict[str, Any]:
    """Show how far a trigger is until it has caught up with the log as it is now."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    ends: dict[str, int] | None = None
    first: dict[str, int] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(key, total=None, rate="")
        while True:
            [found] = (await node.get(_CONSUMERS, {"consumer": key}))["consumers"]
            shards = found["shards"]
            if found["state"] in {"stopped", "paused"}:
                raise Failure(
                    f"{key} is {found['state']}: {found['error'] or 'it goes no further'}"
                )
            if ends is None:
                ends = {shard: at["end"] for shard, at in shards.items()}
                first = {
                    shard: int(found["start"].get(shard, at["next"]))
                    for shard, at in shards.items()
                }
            total = sum(max(end - first[shard], 0) for shard, end in ends.items())
            left = sum(max(end - shards[shard]["next"], 0) for shard, end in ends.items())
            speed = bar.tasks[0].speed
            rate = "" if speed is None else f"{round(speed):,} records/s"
            bar.update(task, total=total, completed=total - left, rate=rate)
            if not left:
                return dict(found)
            await asyncio.sleep(_LOOK_S)
