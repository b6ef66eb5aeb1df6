"""`streamtable log`: the change log, for people."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption, KafkaOption, RegionOption
from streamtable.cli.output import Failure, LogLevel, print_line, set_up_logging
from streamtable.cli.running import run_until_signal

if TYPE_CHECKING:
    from streamtable.cli.epochs import Epochs
    from streamtable.streams.reader import LogReader

__all__ = ["log_app"]

log_app = typer.Typer(name="log", help="Read the change log.", no_args_is_help=True)


class OpenLog(NamedTuple):
    """A log that is being read."""

    reader: "LogReader"
    epochs: "Epochs"


@log_app.command()
def tail(  # noqa: PLR0917 - the options of the command
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", help="Only this table's changes; may be given again."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            show_default="latest; with --no-follow earliest",
            help='Where to begin: "earliest", "latest", or how far back: 30s, 15m, 2h.',
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option(help="Wait for changes to come, or end at the log's end.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    kafka: KafkaOption = None,
    region: RegionOption = "local",
) -> None:
    """Follow the changes of all tables, as they are made.

    A line says when, where in the log (shard/offset.index), table, event and keys; below it is
    what changed: + new, ~ changed, - gone. Commits that are void are not changes: a dim line
    says that they are there.
    """
    from streamtable.cli.tail import Start, Tail, print_json, print_text

    set_up_logging(LogLevel.WARNING)
    try:
        beginning = Start.parse(start or ("latest" if follow else "earliest"))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from") from error
    show = print_json if as_json else print_text

    async def run() -> None:
        async with _open(endpoint, kafka, region) as log:
            reading = Tail(log.reader, log.epochs, tables=frozenset(table or ()), show=show)
            await reading.run(await beginning.offsets(log.reader, _now_ms()), follow=follow)

    run_until_signal(run())


@log_app.command()
def stat(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    kafka: KafkaOption = None,
    region: RegionOption = "local",
) -> None:
    """Show each shard: offsets, time range, changes a second in the last minute, epoch."""
    from streamtable.cli.stat import print_json, print_table, survey

    set_up_logging(LogLevel.WARNING)
    show = print_json if as_json else print_table

    async def run() -> None:
        async with _open(endpoint, kafka, region) as log:
            show(await survey(log.reader, log.epochs, _now_ms()))

    run_until_signal(run())


@log_app.command()
def why(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The item's table.")],
    key: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY", help="The item's key: id=ada, or user_id=7 order_id=a, or JSON."
        ),
    ],
    since: Annotated[
        str,
        typer.Option(metavar="WHEN", help='How far back to look: 30s, 15m, 2h, or "earliest".'),
    ] = "24h",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Tell what happened to one item, and what became of it.

    Each change of the item: when, where in the log, what changed, who asked for it, and what each
    trigger, view and search index made of it.
    """
    from streamtable.cli.tail import Start
    from streamtable.cli.why import explain, print_json, print_text
    from streamtable.triggers.endpoint import Endpoint

    set_up_logging(LogLevel.WARNING)
    try:
        beginning = Start.parse(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    since_ms = 0 if beginning.back_s is None else _now_ms() - beginning.back_s * 1000
    show = print_json if as_json else print_text

    async def run() -> None:
        found = 0
        async with Endpoint(endpoint) as node:
            async for change in explain(node, table, " ".join(key), since_ms):
                show(change)
                found += 1
        if not found:
            print_line(f"the log has no change of this item of {table} since then ({since})")

    run_until_signal(run())


@asynccontextmanager
async def _open(endpoint: str, kafka: str | None, region: str) -> AsyncIterator[OpenLog]:
    """Find the log, by the node or as told, and connect to it."""
    from streamtable.cli.epochs import Epochs
    from streamtable.streams.reader import LogReader
    from streamtable.streams.topics import Topics
    from streamtable.triggers.endpoint import Endpoint, NodeUnavailable

    async with Endpoint(endpoint) as node:
        if kafka is None:
            try:
                found = await node.describe()
            except NodeUnavailable as error:
                raise Failure(
                    f"{error}. Start one with `streamtable serve`, name another with --endpoint, "
                    "or name the brokers with --kafka"
                ) from error
            address, topic = found.kafka, found.changelog
        else:
            address, topic = kafka, Topics(region).changelog
        async with LogReader(address, topic) as reader:
            yield OpenLog(reader, Epochs(node if kafka is None else None))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
