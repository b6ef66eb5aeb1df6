"""The options of `streamtable worker --handler`: how a Lambda function gets its changes."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from streamtable.cli.output import Failure

__all__ = [
    "BatchSizeOption",
    "BatchWindowOption",
    "BisectOption",
    "FilterOption",
    "MaxAgeOption",
    "NameOption",
    "OnFailureOption",
    "OnOption",
    "ParallelismOption",
    "ReportFailuresOption",
    "RetriesOption",
    "StartOption",
    "TimeoutOption",
    "WasOption",
    "WindowOption",
    "handler_options",
]

_PANEL: Final = "With --handler"

OnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--on",
        metavar="EVENT",
        help="INSERT, MODIFY or REMOVE; may be given again. All of them unless told.",
        rich_help_panel=_PANEL,
    ),
]
FilterOption = Annotated[
    Path | None,
    typer.Option(
        "--filter",
        metavar="FILE",
        help="A file with Lambda's FilterCriteria, as JSON.",
        rich_help_panel=_PANEL,
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", help="The most records of a call; 100.", rich_help_panel=_PANEL),
]
BatchWindowOption = Annotated[
    float | None,
    typer.Option(
        "--batch-window-s",
        help="How long to wait for a batch to become full; not at all.",
        rich_help_panel=_PANEL,
    ),
]
RetriesOption = Annotated[
    int | None,
    typer.Option(
        "--retries",
        help="How often what failed is tried again; for as long as --max-age-s.",
        rich_help_panel=_PANEL,
    ),
]
MaxAgeOption = Annotated[
    float | None,
    typer.Option(
        "--max-age-s",
        help="When a change that fails is given up; 23 hours, which is the most.",
        rich_help_panel=_PANEL,
    ),
]
OnFailureOption = Annotated[
    str | None,
    typer.Option(
        "--on-failure",
        metavar="deadletter|drop",
        help="What becomes of what is given up; deadletter.",
        rich_help_panel=_PANEL,
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="WHERE",
        help="Where it begins, once: TRIM_HORIZON, LATEST, a time, SHARD/OFFSET; TRIM_HORIZON.",
        rich_help_panel=_PANEL,
    ),
]
ParallelismOption = Annotated[
    int | None,
    typer.Option(
        "--parallelism",
        help="How many calls run at once for each shard; 1.",
        rich_help_panel=_PANEL,
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout-s", help="A call that takes longer has failed; 900.", rich_help_panel=_PANEL
    ),
]
BisectOption = Annotated[
    bool | None,
    typer.Option(
        "--bisect/--no-bisect",
        help="Whether a batch that fails is split to find what made it fail; it is.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
WindowOption = Annotated[
    float | None,
    typer.Option(
        "--tumbling-window-s",
        help="The length of tumbling windows with state; there are none.",
        rich_help_panel=_PANEL,
    ),
]
ReportFailuresOption = Annotated[
    bool | None,
    typer.Option(
        "--report-batch-item-failures/--no-report-batch-item-failures",
        help="Whether the batchItemFailures that it returns count; they do.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="The trigger's name; the function's own.", rich_help_panel=_PANEL),
]
WasOption = Annotated[
    str | None,
    typer.Option(
        "--was",
        metavar="NAME",
        help="The name that the trigger had before; it goes on where that one was.",
        rich_help_panel=_PANEL,
    ),
]


def handler_options(**given: Any) -> dict[str, Any]:
    """Return the arguments of `App.lambda_trigger` that a command line gives.

    Args:
        given: what options say; None and an empty list for one that is not there. `filter` is a
            file.

    Raises:
        Failure: the file can't be read.
    """
    file: Path | None = given.pop("filter")
    found = {name: value for name, value in given.items() if value is not None and value != []}
    if file is not None:
        try:
            found["where"] = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"--filter {file}: {error}") from None
    return found
