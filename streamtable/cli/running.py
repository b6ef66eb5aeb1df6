"""Runs a command's coroutine until it ends or a signal comes."""

import asyncio
import signal
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any, Final

from streamtable.cli.output import Failure
from streamtable.streams.loops import Loop

__all__ = ["check_tracing", "run_until_signal"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def check_tracing() -> None:
    """Check that what sends traces is installed: it is an extra."""
    if find_spec("opentelemetry") is None:
        raise Failure("traces need OpenTelemetry: pip install 'streamtable[tracing]'")


def run_until_signal(main: Coroutine[Any, Any, None]) -> None:
    """Run `main`; SIGINT and SIGTERM cancel it, once: a second one ends the process at once.

    Returns also when `main` was cancelled by a signal; what it raises is raised here.
    """
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(_run(main))


async def _run(main: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            # What Python does by itself for SIGINT would wait for the loop.
            signal.signal(number, signal.SIG_DFL)
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
