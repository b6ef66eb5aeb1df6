"""Has workers build a view or a search index anew, and shows how far they are."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streamtable.cli.consumers import change, check_at_work, find
from streamtable.cli.output import Failure, print_line, stdout
from streamtable.triggers.endpoint import Endpoint

__all__ = ["rebuild", "show_rebuilt"]

_PATH: Final = "/_streamtable/consumers"
_LOOK_S: Final = 0.2


async def rebuild(
    node: Endpoint, kind: str, name: str, *, wait: bool, **request: Any
) -> dict[str, Any]:
    """Ask for a rebuild; return the consumer as it is then.

    Args:
        node: the node.
        kind: what the consumer must be: view or search.
        name: its name, `APP/NAME` or `NAME`.
        wait: show the progress until it is done.
        request: what the request has besides.

    Raises:
        Failure: there is no such consumer, or nobody to do it.
        NodeError: the node does not take it.
        NodeUnavailable: no node answers.
    """
    found = await find(node, name, kind)
    if wait:
        check_at_work(found)
    asked = {"id": uuid4().hex, "kind": "rebuild", **request}
    await change(node, found, "request", request=asked)
    return await _watch(node, found["key"], asked["id"]) if wait else found


def show_rebuilt(found: Mapping[str, Any], *, wait: bool, as_json: bool) -> None:
    """Print what `rebuild` has returned."""
    if as_json:
        stdout().print_json(data=found)
    else:
        print_line(f"{found['key']} is {'built anew' if wait else 'to be built anew'}")


async def _watch(node: Endpoint, key: str, request_id: str) -> dict[str, Any]:
    """Show the progress until the request is carried out."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeElapsedColumn(),
    )
    said = None
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(key, total=None, shown="")
        while True:
            page = await node.get(_PATH, {"consumer": key})
            if not page["consumers"]:
                raise Failure(f"{key} was removed meanwhile")
            [found] = page["consumers"]
            request = found["request"]
            if request is None or request.get("id") != request_id:
                return dict(found)
            error = found["error"]
            if error is not None and error != said:
                print_line(f"{key}: {error}")
            said = error
            progress = found["progress"] or {}
            bar.update(
                task,
                completed=progress.get("done", 0),
                total=progress.get("total"),
                shown=_shown(progress),
            )
            await asyncio.sleep(_LOOK_S)


def _shown(progress: Mapping[str, Any]) -> str:
    if not progress:
        return "waiting for a worker"
    parts = [f"{progress['done']:,} {progress['phase']}"]
    if progress.get("rate"):
        parts.append(f"{round(progress['rate']):,}/s")
    if progress.get("left_s") is not None:
        parts.append(f"{round(progress['left_s'])} s left")
    return ", ".join(parts)
