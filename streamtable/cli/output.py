"""What the commands print, and where: results on stdout, everything else on stderr.

Colours are rich's, so there are none where the output is piped, or where NO_COLOR is set.
"""

import asyncio
import logging
import threading
from enum import StrEnum
from functools import cache
from typing import Final

from rich.console import Console
from rich.text import Text

from streamtable.core.errors import StreamtableError

__all__ = [
    "Failure",
    "LogFormat",
    "LogLevel",
    "print_error",
    "print_line",
    "set_up_logging",
    "stdout",
]

_LIBRARIES: Final = ("aiokafka", "asyncio", "elastic_transport", "faust", "mode", "uvicorn")
_STYLES: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


class LogLevel(StrEnum):
    """How much a command tells about what it does."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """What a log line looks like."""

    TEXT = "text"
    JSON = "json"


class Failure(StreamtableError):
    """The command can't do what it was asked to.

    Args:
        message: one line: what, with which values, and what to do.
        details: printed before it, a traceback of the user's own code for example.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@cache
def stdout() -> Console:
    """Return the console for results."""
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


def print_line(text: str) -> None:
    """Print a line for a person to stderr."""
    _stderr().print(text)


def print_error(message: str, details: str = "") -> None:
    """Print to stderr why a command failed."""
    console = _stderr()
    if details:
        console.print(details)
    console.print(Text.assemble(("error: ", "bold red"), message))


def set_up_logging(level: LogLevel, form: LogFormat = LogFormat.TEXT) -> None:
    """Have streamtable's own log lines printed to stderr.

    Those of the libraries are printed at `debug` only: what matters of them, streamtable says.

    Args:
        level: what is told, and all that is more important.
        form: lines for people, or one JSON object a line: time, level, logger, message, and where
            they have to do with a request `request_id` and `operation`.
    """
    handler = _json_handler() if form is LogFormat.JSON else _ConsoleHandler()
    if form is LogFormat.TEXT:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers = [handler]
    logging.getLogger("streamtable").setLevel(level.upper())
    for name in _LIBRARIES:
        debug = level is LogLevel.DEBUG
        logging.getLogger(name).setLevel(logging.INFO if debug else logging.CRITICAL + 1)
    threading.excepthook = _log_thread_error


@cache
def _stderr() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def _log_thread_error(error: threading.ExceptHookArgs) -> None:
    """Keep quiet about a library's thread that ends badly because its broker is gone."""
    if error.exc_type not in {SystemExit, asyncio.CancelledError}:
        logging.getLogger("asyncio").error("a thread failed: %r", error.exc_value)


def _json_handler() -> logging.Handler:
    from pythonjsonlogger.orjson import OrjsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(
        OrjsonFormatter(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    return handler


class _ConsoleHandler(logging.Handler):
    """Prints log lines; each level has its colour."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _stderr().print(Text(self.format(record), style=_STYLES.get(record.levelname, "")))
        except Exception:  # noqa: BLE001 - as logging does it
            self.handleError(record)
