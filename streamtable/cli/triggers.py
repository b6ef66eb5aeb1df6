"""`streamtable triggers`: where triggers stand; pausing, moving and forgetting them."""

import asyncio
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

__all__ = ["reset_trigger", "triggers_app"]

_LOOK_S: Final = 0.1

triggers_app = typer.Typer(name="triggers", help="Look after triggers.", no_args_is_help=True)

WaitOption = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", help="How long to wait for functions that run."),
]


@triggers_app.command("list")
def list_(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Views and searches too.")
    ] = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Show each trigger: state, position, how far it is behind, what failed, workers.

    The position is the next offset of each shard; lag is counted in records of the log, and
    behind is the age of the oldest one that was not passed.
    """
    from streamtable.cli.consumers import list_consumers

    list_consumers(endpoint, None if everything else "trigger", "trigger", as_json=as_json)


@triggers_app.command()
def pause(
    name: NameArgument,
    wait_s: WaitOption = 60,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Stop a trigger in all workers; its position is kept. Works for views and searches too.

    Returns when functions that run have ended.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.consumers import change, find, until_stopped
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await find(node, name)
            document = await change(node, found, "pause")
            await until_stopped(node, found, wait_s)
        _tell(f"{found['key']} is paused", document, as_json)

    run_until_signal(run())


@triggers_app.command()
def resume(
    name: NameArgument,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Let a trigger that is paused go on where it stood."""
    _carry_out("resume", "goes on", name, endpoint, as_json=as_json)


@triggers_app.command()
def reset(
    name: NameArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="START",
            help="LATEST, TRIM_HORIZON, a time (2026-11-23T12:00:00Z, or seconds since 1970) or a "
            "position (shard/offset).",
        ),
    ],
    wait_s: WaitOption = 60,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Have a trigger begin elsewhere in the log: changes come again, or are left out.

    Stops it in all workers first, and lets it go on then, if it was not paused. What it has
    parked is forgotten; its dead letters stay.
    """
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.consumers import find
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await find(node, name)
            document = await reset_trigger(node, found, to, wait_s)
        positions = " ".join(f"{shard}/{offset}" for shard, offset in document["start"].items())
        parked = f", {document['dropped']} parked changes are forgotten"
        _tell(
            f"{found['key']} begins at {to}: {positions}{parked if document['dropped'] else ''}",
            document,
            as_json,
        )

    run_until_signal(run())


@triggers_app.command()
def remove(
    name: NameArgument,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Forget a trigger that is gone from the code: its position, and what it has parked.

    It is refused while a worker runs it, and for a view, which has a table: `views drop` removes
    both. Works for searches; the index stays.
    """
    _carry_out("remove", "is removed", name, endpoint, as_json=as_json)


def _carry_out(action: str, said: str, name: str, endpoint: str, *, as_json: bool) -> None:
    """Have the node do something with a trigger at once, and tell that it is done."""
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        from streamtable.cli.consumers import change, find
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            found = await find(node, name)
            if action == "remove" and found["kind"] == "view":
                raise Failure(
                    f"{found['key']} is a view, and has a table: streamtable views drop "
                    f"{found['key']} removes both"
                )
            document = await change(node, found, action)
        _tell(f"{found['key']} {said}", document, as_json)

    run_until_signal(run())


async def reset_trigger(
    node: "Endpoint", found: Mapping[str, Any], to: str, wait_s: float
) -> dict[str, Any]:
    """Reset a trigger, once no worker runs it; where that fails it goes on as before."""
    from streamtable.cli.consumers import change
    from streamtable.triggers.endpoint import NodeError

    deadline = time.monotonic() + wait_s
    paused = False
    try:
        while True:
            try:
                # What is wrong with `to` is found before anything is stopped.
                document = await change(node, found, "reset", to=to, resume=paused)
            except NodeError as error:
                if error.code != "ResourceInUseException":
                    raise
                if time.monotonic() > deadline:
                    raise Failure(
                        f"{found['key']} still runs after {wait_s:g} s, and stays where it is: "
                        f"{error}"
                    ) from None
            else:
                paused = False
                return document
            if not paused and not found["paused"]:
                await change(node, found, "pause")
                paused = True
            await asyncio.sleep(_LOOK_S)
    finally:
        if paused:
            await change(node, found, "resume")


def _tell(line: str, document: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        stdout().print_json(data=document)
    else:
        print_line(line)
