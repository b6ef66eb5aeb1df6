"""`streamtable search`: where search indexes stand, and building one anew."""

from typing import Annotated

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption
from streamtable.cli.output import LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

__all__ = ["search_app"]

search_app = typer.Typer(name="search", help="Look after search indexes.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@search_app.command("list")
def list_(as_json: JsonOption = False, endpoint: EndpointOption = DEFAULT_ENDPOINT) -> None:
    """Show each search index: state, position, how far it is behind, workers.

    Lag is counted in records of the log, and behind is the age of the oldest one that was not
    passed.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.consumers import consumers, show_consumers
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = [each for each in await consumers(node) if each["kind"] == "search"]
        if as_json:
            stdout().print_json(data=found)
        elif found:
            show_consumers(found)
        else:
            print_line("no worker has registered a search index yet")

    run_until_signal(run())


@search_app.command()
def rebuild(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="APP/NAME, or NAME where only one app has it.")
    ],
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
        from streamtable.cli.rebuilds import rebuild
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await rebuild(node, "search", name, wait=wait, keep=keep)
        if as_json:
            stdout().print_json(data=found)
        else:
            print_line(f"{found['key']} is {'built anew' if wait else 'to be built anew'}")

    run_until_signal(run())
