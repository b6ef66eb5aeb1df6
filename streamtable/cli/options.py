"""Options that several commands have."""

import re
from pathlib import Path
from typing import Annotated, Final

import typer

__all__ = [
    "DEFAULT_ENDPOINT",
    "EndpointOption",
    "JsonOption",
    "KafkaConfigOption",
    "KafkaOption",
    "NameArgument",
    "RegionOption",
    "TracesOption",
]

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:8000"

_URL: Final = re.compile(r"https?://[^/\s]+(/\S*)?")


def _check_endpoint(url: str) -> str:
    # Nobody ever answers at anything else, and a worker would wait for it.
    if not _URL.fullmatch(url):
        raise typer.BadParameter(f"{url!r} is no URL of a node, such as {DEFAULT_ENDPOINT}")
    return url


EndpointOption = Annotated[
    str,
    typer.Option(
        metavar="URL", envvar="STREAMTABLE_ENDPOINT", help="The node.", callback=_check_endpoint
    ),
]
KafkaOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,...", help="Read the log from these brokers, without asking the node."
    ),
]
KafkaConfigOption = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="File with TLS and SASL settings for these brokers, as kcat's -F takes it.",
    ),
]
RegionOption = Annotated[str, typer.Option(help="With --kafka: the region whose log is read.")]
TracesOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
        help="An OpenTelemetry collector for traces, http://host:4318.",
    ),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="APP/NAME, or NAME where only one app has it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
