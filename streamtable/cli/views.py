"""`streamtable views`: where views stand; building one anew, and removing one."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streamtable.cli.options import (
    DEFAULT_ENDPOINT,
    EndpointOption,
    JsonOption,
    NameArgument,
)
from streamtable.cli.output import Failure, LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

if TYPE_CHECKING:
    from streamtable.triggers.endpoint import Endpoint

__all__ = ["rebuild_view", "time_ms", "views_app"]

_VIEWS: Final = "/_streamtable/views"
_CLOCKS_DIFFER_MS: Final = 60_000

views_app = typer.Typer(name="views", help="Look after views.", no_args_is_help=True)


@views_app.command("list")
def list_(as_json: JsonOption = False, endpoint: EndpointOption = DEFAULT_ENDPOINT) -> None:
    """Show each view, aggregate and join: state, position, how far it is behind, workers.

    Lag is counted in records of the log, and behind is the age of the oldest one that was not
    passed.
    """
    from streamtable.cli.consumers import list_consumers

    list_consumers(endpoint, "view", "view", as_json=as_json)


@views_app.command()
def show(
    name: NameArgument, as_json: JsonOption = False, endpoint: EndpointOption = DEFAULT_ENDPOINT
) -> None:
    """Show one view: what it follows from, its rows, its generation, and where it stands."""
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.consumers import show_consumers
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await _find(node, name)
            table = await _table(node, found)
        if as_json:
            stdout().print_json(data={**found, "table": table})
            return
        show_consumers([found])
        stdout().print(f"follows from  {', '.join(found['sources'])}")
        if table is None:
            stdout().print("table         not built yet")
            return
        stdout().print(
            f"table         {table['kind']}, generation {table['generation']}, {table['state']}, "
            f"{table['rows']:,} rows, {table['size_bytes']:,} bytes"
        )

    run_until_signal(run())


@views_app.command()
def rebuild(  # noqa: PLR0917 - options are given by name
    name: NameArgument,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="TIME",
            help="Begin with the sources as they were then, and go through the log from there: "
            "2026-11-23T12:00:00Z, or seconds since 1970.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Put at most so many rows a second.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Show the progress until it is done.")
    ] = True,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Build a view anew from its sources' rows and the log, and swap it in.

    The old rows are read, and kept right, until the new ones are complete.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.rebuilds import show_rebuilt
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            as_of_ms = None if as_of is None else time_ms("--as-of", as_of)
            found = await rebuild_view(node, name, as_of_ms, wait=wait, rate=rate)
        show_rebuilt(found, wait=wait, as_json=as_json)

    run_until_signal(run())


@views_app.command()
def drop(
    name: NameArgument, as_json: JsonOption = False, endpoint: EndpointOption = DEFAULT_ENDPOINT
) -> None:
    """Remove a view that is gone from the code: its rows and its registration.

    It is refused while a worker runs it.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.consumers import change
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await _find(node, name)
            await change(node, found, "remove")
            answer: dict[str, Any] = {"dropped": []}
            # Of one that was never built, the name may be that of somebody else's table.
            if await _table(node, found) is not None:
                body = {"app": found["app"], "name": found["name"], "generation": None}
                answer = await node.post(f"{_VIEWS}/drop", body)
        if as_json:
            stdout().print_json(data=answer)
        else:
            print_line(f"{found['key']} is removed")

    run_until_signal(run())


async def rebuild_view(
    node: "Endpoint",
    name: str,
    as_of_ms: int | None,
    *,
    wait: bool,
    rate: float | None = None,
) -> dict[str, Any]:
    """Ask for a rebuild of a view; return the consumer as it is then.

    Raises:
        Failure: there is no such view, nobody builds it, or it could not be built.
        LogTooShort: the log does not reach back to `as_of_ms`.
    """
    from streamtable.cli.rebuilds import rebuild
    from streamtable.consumers.views.filler import reach_back
    from streamtable.streams.reader import LogReader

    before = await _find(node, name)
    if as_of_ms is not None:
        described = await node.describe()
        async with LogReader(described.kafka, described.changelog) as reader:
            await reach_back(reader, as_of_ms)
    found = await rebuild(node, "view", name, wait=wait, as_of_ms=as_of_ms, rate=rate)
    if wait and found["generation"] <= before["generation"]:
        why = found["error"] or "its worker's log says why"
        raise Failure(f"{found['key']} could not be built, its rows are as before: {why}")
    return found


async def _find(node: "Endpoint", name: str) -> dict[str, Any]:
    from streamtable.cli.consumers import find

    return await find(node, name, "view")


async def _table(node: "Endpoint", found: Mapping[str, Any]) -> dict[str, Any] | None:
    about = (found["app"], found["name"])
    views: list[dict[str, Any]] = (await node.get(_VIEWS))["views"]
    return next((each for each in views if (each["app"], each["name"]) == about), None)


def time_ms(option: str, text: str) -> int:
    """Return the time that an option names, milliseconds since 1970.

    Raises:
        Failure: it names none.
    """
    from streamtable.core.starts import AtTime, parse_start

    try:
        start = parse_start(text)
    except ValueError:
        start = None
    if not isinstance(start, AtTime):
        raise Failure(
            f"{option} {text}: a time with its zone is wanted (2026-11-23T12:00:00Z), or seconds "
            "since 1970"
        )
    if start.ms > time.time() * 1000 + _CLOCKS_DIFFER_MS:
        raise Failure(f"{option} {text}: that is in the future")
    return start.ms
