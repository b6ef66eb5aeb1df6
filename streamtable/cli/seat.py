"""One process of `streamtable serve --workers N`: `python -m streamtable.cli.seat SEAT`.

It prints a line when it answers, and ends with its parent.
"""

import os
import sys

from streamtable.cli.loading import load_checks
from streamtable.cli.output import LogFormat, LogLevel, print_error, set_up_logging
from streamtable.cli.running import run_until_signal
from streamtable.core.errors import StreamtableError
from streamtable.node import Node
from streamtable.processes import Seat, parent_is_gone

__all__ = ["main"]


async def _serve(seat: Seat) -> None:
    # The broker is gone with it, so there is nobody to part from; what was answered is durable.
    parent_is_gone().add_done_callback(lambda _: os._exit(1))
    checks = load_checks(seat.checks) if seat.checks else None
    node = Node(seat.settings, checks, seat=seat.number, appends=seat.appends)
    await node.start()
    try:
        sys.stdout.write(f"{node.endpoint}\n")
        sys.stdout.flush()
        await node.wait_failed()
    finally:
        await node.stop()


def main() -> None:
    """Run it; a foreseen error is one line on stderr and exit code 1."""
    seat = Seat.model_validate_json(sys.argv[1])
    set_up_logging(LogLevel(seat.log_level), LogFormat(seat.log_format))
    try:
        run_until_signal(_serve(seat))
    except StreamtableError as error:
        print_error(f"worker {seat.number}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
