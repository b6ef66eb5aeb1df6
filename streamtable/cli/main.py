"""The commands, and how they end."""

import faulthandler
import os
import sys
from typing import Annotated

import typer

from streamtable.cli.checkpoints import checkpoints_app
from streamtable.cli.deadletters import deadletters_app
from streamtable.cli.lag import lag
from streamtable.cli.log import log_app
from streamtable.cli.output import Failure, print_error
from streamtable.cli.replay import replay
from streamtable.cli.reshard import reshard
from streamtable.cli.search import search_app
from streamtable.cli.serve import serve
from streamtable.cli.shards import drain, init, shards
from streamtable.cli.triggers import triggers_app
from streamtable.cli.version import print_version, version
from streamtable.cli.views import views_app
from streamtable.cli.worker import worker
from streamtable.core.errors import StreamtableError

__all__ = ["app", "main"]

app = typer.Typer(
    name="streamtable",
    help="A self-hosted DynamoDB on a change log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(init)
app.command()(shards)
app.command()(drain)
app.command()(reshard)
app.command()(worker)
app.add_typer(triggers_app)
app.add_typer(views_app)
app.add_typer(search_app)
app.command()(replay)
app.add_typer(deadletters_app)
app.command()(lag)
app.add_typer(log_app)
app.add_typer(checkpoints_app)
app.command()(version)


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=print_version),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def main() -> None:
    """Run the command line; a foreseen error is one line on stderr and exit code 1."""
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # a crash of a compiled library says where it was
    try:
        app()
    except Failure as failure:
        print_error(str(failure), failure.details)
        sys.exit(1)
    except StreamtableError as error:
        # As text, an OSError begins with its number.
        print_error(getattr(error, "strerror", None) or str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python's last flush must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
