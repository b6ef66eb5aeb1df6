"""`streamtable worker`."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streamtable.cli.options import DEFAULT_ENDPOINT, EndpointOption
from streamtable.cli.output import Failure, LogFormat, LogLevel, set_up_logging
from streamtable.cli.running import run_until_signal

if TYPE_CHECKING:
    from streamtable import App

__all__ = ["worker"]

# The Kafka consumers run in threads: at the default of 5 ms they wait for the interpreter
# longer than for the log.
_SWITCH_INTERVAL_S: Final = 0.0005


def worker(
    app: Annotated[
        str,
        typer.Argument(
            metavar="APP", help="Where the app is: path/to/file.py:variable, or module:variable."
        ),
    ],
    endpoint: EndpointOption = DEFAULT_ENDPOINT,
    skip_lost: Annotated[
        bool,
        typer.Option(
            "--skip-lost",
            help="Go on where the log has lost changes that a trigger has not seen.",
        ),
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(help="How much to tell on stderr.")
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines for people, or JSON for log collectors.")
    ] = LogFormat.TEXT,
) -> None:
    """Run the triggers of an app against a running node.

    Waits while the node is down. On Ctrl-C and SIGTERM the functions that run are finished and
    their positions committed. Exits with 1 when a trigger has stopped on an error.
    """
    from streamtable.cli.loading import load_app

    set_up_logging(log_level, log_format)
    loaded = load_app(app)
    if not loaded.triggers:
        raise Failure(f"the app {loaded.name} in {app} has no triggers")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    stopped: list[str] = []
    run_until_signal(_work(loaded, endpoint, skip_lost, stopped))
    if stopped:
        raise Failure(f"stopped on an error: {', '.join(stopped)}")


async def _work(app: "App", url: str, skip_lost: bool, stopped: list[str]) -> None:
    from streamtable.triggers.endpoint import Endpoint
    from streamtable.triggers.worker import Worker

    async with Endpoint(url) as endpoint:
        running = Worker(app, endpoint, skip_lost=skip_lost)
        try:
            await running.run()
        except asyncio.CancelledError:
            stopped.extend(running.stopped)
            raise
        stopped.extend(running.stopped)
