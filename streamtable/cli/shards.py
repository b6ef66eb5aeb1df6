"""`streamtable shards`, `drain` and `init`: where shards are, and where they are to be."""

import asyncio
from typing import Annotated, Any

import typer

from streamtable.cli.brokers import brokers_needed
from streamtable.cli.node_settings import settings_of
from streamtable.cli.options import (
    DEFAULT_ENDPOINT,
    EndpointOption,
    JsonOption,
    KafkaConfigOption,
)
from streamtable.cli.output import LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

__all__ = ["drain", "init", "shards"]

_EPOCH_LETTERS = 8


def shards(as_json: JsonOption = False, endpoint: EndpointOption = DEFAULT_ENDPOINT) -> None:
    """Show each shard: its owner, its epoch, how far its tables are, and what is written to it."""
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            page = await node.get("/_streamtable/shards")
        found, reshard = page["shards"], page["reshard"]
        if as_json:
            stdout().print_json(data=found)
        else:
            _show(found)
            if reshard is not None:
                print_line(f"there are to be {reshard['target']}: {reshard['phase']}")

    run_until_signal(run())


def drain(endpoint: EndpointOption = DEFAULT_ENDPOINT) -> None:
    """Hand a node's shards over to the others, before it is stopped.

    It goes on answering: requests are passed on to the nodes that have the shards by then. Its
    `/readyz` says no, so that load balancers send it no more.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            await node.post("/_streamtable/drain", {})
        stdout().print(f"{endpoint} has no shards any more; it can be stopped")

    run_until_signal(run())


def init(
    kafka: Annotated[
        str, typer.Option(metavar="HOST:PORT,...", help="The brokers that are to keep the log.")
    ],
    count: Annotated[
        int | None,
        typer.Option(
            "--shards",
            min=1,
            max=1000,
            show_default="16 on three brokers or more, else 4",
            help="Shards of the change log; later on there can be more: streamtable reshard.",
        ),
    ] = None,
    kafka_config: KafkaConfigOption = None,
    region: Annotated[
        str, typer.Option(help="Name of the region; its topics' names begin with it.")
    ] = "local",
) -> None:
    """Make a region's topics on Kafka, before its first node starts.

    A node makes what is missing, too; this is for choosing the number of shards once, or where
    nodes may not make topics. What is there already is left as it is.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.streams.security import known_address
        from streamtable.streams.topics import Topics

        topics = Topics(settings_of(region=region).region)
        async with brokers_needed(kafka, kafka_config):
            found = await topics.create(known_address(kafka, kafka_config), count)
        topics.check_shards(found, count)
        stdout().print(
            f"the region {region} has a change log of {found} shards: {topics.changelog}"
        )

    asyncio.run(run())


def _show(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("shard", "owner", "epoch"):
        table.add_column(name, no_wrap=True)
    for name in ("last", "lag", "writes/s"):
        table.add_column(name, justify="right")
    table.add_column("busiest items")
    for each in found:
        if each["error"] is not None:
            owner = each["owner"] or ""
            table.add_row(str(each["shard"]), owner, "", "", "", "", each["error"], style="red")
            continue
        table.add_row(
            str(each["shard"]),
            each["owner"] or each["node"],
            each["epoch"][:_EPOCH_LETTERS] if each["serving"] else "not serving",
            str(each["last"]),
            str(each["lag"]),
            str(each["writes_per_s"]),
            ", ".join(map(_item, each["busiest"])),
        )
    stdout().print(table)


def _item(busy: dict[str, Any]) -> str:
    keys = ", ".join(
        f"{name}={value}" for name, typed in busy["keys"].items() for value in typed.values()
    )
    return f"{busy['table']} {keys} {busy['share']:.0%}"
