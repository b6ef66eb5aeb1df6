"""`streamtable reshard`: more shards, while everything goes on."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption
from streamtable.cli.output import Failure, LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

__all__ = ["reshard"]

_PATH: Final = "/_streamtable/reshard"
_LOOK_S: Final = 0.25


def reshard(
    count: Annotated[
        int | None,
        typer.Option(
            "--shards",
            min=1,
            max=1000,
            show_default="what is under way is watched",
            help="How many shards there are to be: a multiple of how many there are.",
        ),
    ] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give up what is under way; nothing has changed then.")
    ] = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Make the number of a region's shards larger, while it goes on.

    The new shards' rows are copied in the background; then requests wait for a moment while the
    number changes. This command waits until that is done and each shard has only its own rows. It
    may be stopped: the nodes go on, and the command, given again, watches them.
    """
    set_up_logging(LogLevel.WARNING)
    if cancel and count is not None:
        raise Failure("--cancel goes without --shards")

    async def run() -> None:
        from streamtable.triggers.endpoint import Endpoint, NodeError

        async with Endpoint(endpoint) as node:
            try:
                if cancel:
                    found = await node.post(_PATH, {"cancel": True})
                    said = "given up" if found["cancelled"] else "nothing is under way"
                    stdout().print(said)
                    return
                if count is not None:
                    await node.post(_PATH, {"shards": count})
            except NodeError as error:
                raise Failure(str(error)) from None
            await _watch(node)

    run_until_signal(run())


async def _watch(node: Any) -> None:
    """Tell how far it is, until it is done."""
    from streamtable.triggers.endpoint import NodeUnavailable

    said = ""
    while True:
        try:
            found = await node.get(_PATH)
        except NodeUnavailable as error:
            text = f"waiting: {error}"
        else:
            text = _step(found)
        if not text:
            break
        if text != said:
            print_line(text)
        said = text
        await asyncio.sleep(_LOOK_S)
    waited = found["paused_s"]
    paused = "" if waited is None else f"; requests waited {waited * 1000:.0f} ms"
    stdout().print(f"the region has {found['shards']} shards{paused}")


def _step(found: Mapping[str, Any]) -> str:
    """Say what is going on; nothing where all is done."""
    reshard = found["reshard"]
    if reshard is None and found["failed"] is not None:
        raise Failure(f"the region has {found['shards']} shards still: {found['failed']}")
    if reshard is not None and reshard["phase"] == "copying":
        why = [*found["errors"], *([] if reshard["error"] is None else [reshard["error"]])]
        told = f" ({'; '.join(why)})" if why else ""
        return f"copying the rows of {reshard['target'] - found['shards']} new shards{told}"
    if reshard is not None or found["waiting"]:
        return "changing the number"
    if found["errors"]:
        return f"waiting: {'; '.join(found['errors'])}"
    if found["cleaning"]:
        return "removing rows that have moved"
    return ""
