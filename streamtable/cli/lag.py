"""`streamtable lag`: how far every consumer is behind."""

import asyncio
from typing import Annotated, Any, Final

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption
from streamtable.cli.output import LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

__all__ = ["lag"]

_EVERY_S: Final = 1.0


def lag(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON array; with --watch one on a line.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it anew every second, until Ctrl-C.")
    ] = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Show how far every trigger, view and search is behind, whether a worker runs it or not.

    Lag is counted in records of the log that were not passed yet, whatever tables they touch, and
    behind is the age of the oldest of them.
    """
    set_up_logging(LogLevel.WARNING)
    run_until_signal(_show(endpoint, as_json=as_json, watch=watch))


async def _show(url: str, *, as_json: bool, watch: bool) -> None:
    from rich.live import Live

    from streamtable.cli.consumers import lag_table
    from streamtable.triggers.endpoint import Endpoint

    async with Endpoint(url) as node:
        if not watch:
            found = await _ask(node)
            if as_json:
                stdout().print_json(data=found)
            elif found:
                stdout().print(lag_table(found))
            else:
                print_line("no worker has registered anything yet")
            return
        if as_json:
            import orjson

            while True:
                stdout().print(orjson.dumps(await _ask(node)).decode())
                await asyncio.sleep(_EVERY_S)
        with Live(console=stdout(), auto_refresh=False) as live:
            while True:
                live.update(lag_table(await _ask(node)), refresh=True)
                await asyncio.sleep(_EVERY_S)


async def _ask(node: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await node.get("/_streamtable/lag"))["consumers"]
    return found
