"""Options that several commands have."""

from typing import Annotated, Final

import typer

__all__ = ["DEFAULT_ENDPOINT", "EndpointOption", "KafkaOption", "RegionOption"]

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:8000"

EndpointOption = Annotated[
    str, typer.Option(metavar="URL", envvar="STREAMTABLE_ENDPOINT", help="The node.")
]
KafkaOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT,...", help="Read the log from these brokers, without asking the node."
    ),
]
RegionOption = Annotated[str, typer.Option(help="With --kafka: the region whose log is read.")]
