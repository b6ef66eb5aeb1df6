"""`streamtable version`."""

import json
import platform
from importlib.metadata import version as installed
from typing import Annotated, Final

import typer

from streamtable.cli.output import stdout

__all__ = ["print_version", "version"]

_LIBRARIES: Final = ("aiokafka", "faust-streaming", "pydantic", "rocksdict", "uvicorn")


def version(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, with the libraries' versions.")
    ] = False,
) -> None:
    """Print the version."""
    if not as_json:
        stdout().print(f"streamtable {installed('streamtable')}")
        return
    found = {"streamtable": installed("streamtable"), "python": platform.python_version()}
    stdout().print(json.dumps(found | {name: installed(name) for name in _LIBRARIES}))


def print_version(asked: bool) -> None:
    """Print the version and exit, where asked to."""
    if asked:
        version()
        raise typer.Exit
