"""`streamtable deadletters`: the changes that were given up, and what becomes of them."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption, JsonOption
from streamtable.cli.output import Failure, LogLevel, print_line, set_up_logging, stdout
from streamtable.cli.running import run_until_signal

__all__ = ["deadletters_app"]

deadletters_app = typer.Typer(
    name="deadletters",
    help="Look after the changes that consumers gave up.",
    no_args_is_help=True,
)

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID...", help="Letters, APP/NAME/shard-offset-index."),
]
TriggerOption = Annotated[
    str | None,
    typer.Option("--trigger", "-t", metavar="NAME", help="Those of one trigger, view or search."),
]
AllOption = Annotated[bool, typer.Option("--all", help="All there are.")]


@deadletters_app.command("list")
def list_(
    trigger: TriggerOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Show the open dead letters: id, table, keys, why, attempts, when, error."""
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        found = await _read(endpoint, trigger)
        if as_json:
            stdout().print_json(data=found)
        elif found:
            _show(found)
        else:
            print_line("there are no dead letters")

    run_until_signal(run())


@deadletters_app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="The letter's id.")],
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Show a dead letter whole: the change, the last error and its trace."""
    set_up_logging(LogLevel.WARNING)

    async def run() -> None:
        [found] = await _read(endpoint, None, letter)
        if as_json:
            stdout().print_json(data=found)
        else:
            _show_whole(found)

    run_until_signal(run())


@deadletters_app.command()
def redrive(
    letters: IdsArgument = None,
    trigger: TriggerOption = None,
    everything: AllOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Send changes back to who gave them up, in their order, to be tried as if for the first time.

    Later changes of the same items wait for them.
    """
    _settle(
        "redrive",
        letters or [],
        trigger,
        everything=everything,
        as_json=as_json,
        endpoint=endpoint,
    )


@deadletters_app.command()
def drop(
    letters: IdsArgument = None,
    trigger: TriggerOption = None,
    everything: AllOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
) -> None:
    """Forget dead letters."""
    _settle(
        "drop",
        letters or [],
        trigger,
        everything=everything,
        as_json=as_json,
        endpoint=endpoint,
    )


def _settle(
    action: str,
    letters: list[str],
    trigger: str | None,
    *,
    everything: bool,
    as_json: bool,
    endpoint: str,
) -> None:
    set_up_logging(LogLevel.WARNING)
    if (bool(letters), trigger is not None, everything).count(True) != 1:
        raise Failure("say which: ids, or --trigger NAME, or --all")

    async def run() -> None:
        from streamtable.cli.consumers import find
        from streamtable.triggers.endpoint import Endpoint

        async with Endpoint(endpoint) as node:
            body: dict[str, Any] = {"action": action, "ids": letters, "all": everything}
            if trigger is not None:
                body["consumer"] = (await find(node, trigger))["key"]
            answer = await node.post("/_streamtable/deadletters", body)
        if as_json:
            stdout().print_json(data=answer)
            return
        done = answer["done"]
        what = "sent back" if action == "redrive" else "dropped"
        print_line(f"{len(done)} {'letter' if len(done) == 1 else 'letters'} {what}")
        for letter, why in answer["refused"].items():
            print_line(f"{letter}: {why}")
        if answer["refused"]:
            raise Failure(f"{len(answer['refused'])} could not be {what}")

    run_until_signal(run())


async def _read(url: str, trigger: str | None, letter: str | None = None) -> list[dict[str, Any]]:
    from streamtable.cli.consumers import find
    from streamtable.triggers.endpoint import Endpoint

    async with Endpoint(url) as node:
        query = {}
        if letter is not None:
            query["id"] = letter
        if trigger is not None:
            query["consumer"] = (await find(node, trigger))["key"]
        found: list[dict[str, Any]] = (await node.get("/_streamtable/deadletters", query))[
            "letters"
        ]
    if letter is not None and not found:
        raise Failure(f"there is no dead letter {letter}")
    return found


def _show(found: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("id", "table", "keys", "why", "attempts", "given up", "error"):
        table.add_column(name, no_wrap=name in {"id", "given up"})
    for each in found:
        table.add_row(
            each["id"],
            each["table"],
            _keys(each["keys"]),
            each["reason"],
            str(each["attempts"]),
            _time(each["failed_ms"]),
            _error(each["error"]),
        )
    console = stdout()
    console.width = max(console.width, 130)
    console.print(table)


def _show_whole(letter: dict[str, Any]) -> None:
    from streamtable.cli.changes import change_text
    from streamtable.core.changes import change_from_json
    from streamtable.core.positions import Position

    console = stdout()
    console.print(f"{letter['id']}  {letter['kind']}, generation {letter['generation']}")
    console.print(
        f"given up {_time(letter['failed_ms'])} ({letter['reason']}) after {letter['attempts']} "
        f"attempts, the first at {_time(letter['first_failed_ms'])}"
    )
    if letter["change"] is None:
        console.print(f"{letter['table']}  {_keys(letter['keys'])}: the log had lost the change")
    else:
        console.print(
            change_text(change_from_json(letter["change"]), Position(*letter["position"]))
        )
    console.print()
    console.print(letter["error"]["trace"].rstrip() or _error(letter["error"]))


def _keys(keys: dict[str, dict[str, Any]]) -> str:
    return " ".join(f"{name}={next(iter(value.values()))!r}" for name, value in keys.items())


def _error(error: dict[str, str]) -> str:
    text = " ".join(error["message"].split())
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{error['type']}: {text}" if text else error["type"]


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone():%m-%d %H:%M:%S}"
