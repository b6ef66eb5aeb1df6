"""`--reload`: a command that is started again when the code that it runs has changed."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from watchfiles import PythonFilter, awatch

from streamtable.cli.output import print_line

__all__ = ["run_reloading"]

_OPTION: Final = "--reload"


async def run_reloading(folder: Path, arguments: Sequence[str]) -> None:
    """Run `streamtable ARGUMENTS` in a process, and another one after each change of its code.

    The process is ended in good order before the next one starts. One that ends by itself, as
    after an error in the code, is started again at the next change.

    Args:
        folder: where changes of Python files are looked for, with the folders in it.
        arguments: the command line; `--reload` is left out.
    """
    command = [sys.executable, "-m", "streamtable"]
    command += [each for each in arguments if each != _OPTION]
    changes = awatch(folder, watch_filter=PythonFilter(), recursive=True)
    while True:
        # A group of its own: Ctrl-C in a terminal comes here first, and is passed on.
        running = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        try:
            changed = await anext(changes)
        finally:
            if running.returncode is None:
                running.send_signal(signal.SIGTERM)
            await running.wait()
        names = sorted({path.removeprefix(f"{folder}/") for _, path in changed})
        print_line(f"{', '.join(names)} changed: starting again")
