"""The command line."""

from streamtable.cli.main import main

__all__ = ["main"]
