"""`streamtable search`: where search indexes stand, and building one anew."""

from typing import Annotated

import typer

from streamtable.cli.options import (
    DEFAULT_ENDPOINT,
    EndpointOption,
    JsonOption,
    NameArgument,
)
from streamtable.cli.output import LogLevel, set_up_logging
from streamtable.cli.running import run_until_signal

__all__ = ["search_app"]

search_app = typer.Typer(name="search", help="Look after search indexes.", no_args_is_help=True)


@search_app.command("list")
def list_(as_json: JsonOption = False, endpoint: EndpointOption = DEFAULT_ENDPOINT) -> None:
    """Show each search index: state, position, how far it is behind, workers.

    Lag is counted in records of the log, and behind is the age of the oldest one that was not
    passed.
    """
    from streamtable.cli.consumers import list_consumers

    list_consumers(endpoint, "search", "search index", as_json=as_json)


@search_app.command()
def rebuild(
    name: NameArgument,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the old index in Elasticsearch.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show the progress until it is done.")
    ] = True,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Build an index anew from the table's rows and the log, and swap it in.

    The old one is searched, and kept right, until the new one is complete.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.rebuilds import rebuild, show_rebuilt
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await rebuild(node, "search", name, wait=wait, keep=keep)
        show_rebuilt(found, wait=wait, as_json=as_json)

    run_until_signal(run())
