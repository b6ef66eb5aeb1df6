"""`streamtable checkpoints`: the shards' checkpoints, for people."""

import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption, JsonOption, RegionOption
from streamtable.cli.output import Failure, LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

__all__ = ["checkpoints_app"]

checkpoints_app = typer.Typer(
    name="checkpoints", help="Look after the shards' checkpoints.", no_args_is_help=True
)

PlaceOption = Annotated[
    str | None,
    typer.Option(
        "--place", metavar="PLACE", help="Read the checkpoints there, without asking a node."
    ),
]


@checkpoints_app.command("list")
def list_(
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    place: PlaceOption = None,
    region: RegionOption = "local",
) -> None:
    """Show the checkpoints of each shard, the newest first: offset, age, size, files."""
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        found = await _find(endpoint, place, region)
        if as_json:
            stdout().print_json(data=found["checkpoints"])
        else:
            _show(found["place"], found["checkpoints"])

    run_until_signal(run())


@checkpoints_app.command()
def take(as_json: JsonOption = False, endpoint: EndpointOption = DEFAULT_ENDPOINT) -> None:
    """Take a checkpoint of each shard of the node that has changed since its last one."""
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            answer = await node.post("/_streamtable/checkpoints", {"action": "take"})
        if as_json:
            stdout().print_json(data=answer["checkpoints"])
        elif answer["checkpoints"]:
            _show(None, answer["checkpoints"])
        else:
            print_line("no shard has changed since its last checkpoint")

    run_until_signal(run())


@checkpoints_app.command()
def verify(
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    place: PlaceOption = None,
    region: RegionOption = "local",
) -> None:
    """Read every file of each shard's newest checkpoint and compare the checksums.

    Exits with 1 when one is damaged or missing.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.consumers.checkpoints.manifests import DamagedCheckpoint, Manifest, Names
        from streamtable.consumers.checkpoints.objects import BadObject, Objects
        from streamtable.consumers.checkpoints.restore import verify as verify_one

        found = await _find(endpoint, place, region)
        objects = Objects(found["place"])
        damaged = False
        newest: dict[int, dict[str, Any]] = {}
        for each in found["checkpoints"]:
            newest.setdefault(each["shard"], each)
        if not newest:
            raise Failure(f"there are no checkpoints in {found['place']}")
        for shard, each in newest.items():
            try:
                manifest = await Manifest.read(objects, each["key"])
                with tempfile.TemporaryDirectory() as scratch:
                    names = Names(found["region"], shard)
                    await verify_one(objects, names, manifest, Path(scratch))
            except (DamagedCheckpoint, BadObject) as error:
                damaged = True
                print_line(f"shard {shard}: {error}")
            else:
                print_line(
                    f"shard {shard}: offset {manifest.offset}, {len(manifest.files)} files, "
                    f"{_size(manifest.size_bytes)}: as they were written"
                )
        if damaged:
            raise Failure(
                "a checkpoint is damaged: the one before it is used in its place, if it does not "
                "have the same file. Remove what is damaged, and the next checkpoint sends it anew"
            )

    run_until_signal(run())


async def _find(endpoint: str, place: str | None, region: str) -> dict[str, Any]:
    """List the checkpoints, by the node or as told."""
    from streamtable.consumers.checkpoints.objects import Objects
    from streamtable.control.checkpoints import list_checkpoints
    from streamtable.triggers.endpoint import Endpoint

    if place is None:
        async with Endpoint(endpoint) as node:
            found = await node.get("/_streamtable/checkpoints")
        if found["place"] is None:
            raise Failure(f"the node at {endpoint} keeps no checkpoints: it has --checkpoints none")
        return found
    objects = Objects(place)
    shards = {
        int(number)
        for each in await objects.list(region)
        if (number := each.key.split("/")[1].removeprefix("shard-")).isdecimal()
    }
    found_here = await list_checkpoints(objects, region, sorted(shards))
    return {"place": place, "region": region, "checkpoints": found_here}


def _show(place: str | None, found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("shard", "offset", "age", "size", "files", "node", box=None)
    for each in found:
        if "damaged" in each:
            table.add_row(str(each["shard"]), "damaged", "", "", "", each["damaged"])
            continue
        age = timedelta(seconds=max(0, int(time.time() - each["taken_ms"] / 1000)))
        table.add_row(
            str(each["shard"]),
            str(each["offset"]),
            str(age),
            _size(each["size_bytes"]),
            str(each["files"]),
            each["node"],
        )
    if place is not None:
        print_line(f"checkpoints in {place}")
    stdout().print(table)


def _size(size_bytes: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
