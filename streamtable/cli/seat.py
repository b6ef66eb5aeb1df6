"""One process of `streamtable serve --workers N`: `python -m streamtable.cli.seat SEAT`.

It tells its parent when it answers, and when its endpoint is closed; it ends with its parent.
"""

import asyncio
import os
import sys
from contextlib import suppress

from streamtable.cli.loading import load_checks
from streamtable.cli.output import LogFormat, LogLevel, print_error, set_up_logging
from streamtable.cli.running import run_until_signal
from streamtable.core.errors import StreamtableError
from streamtable.node import Node
from streamtable.processes import Parent, Seat

__all__ = ["main"]


async def _serve(seat: Seat) -> None:
    # The broker is gone with it, so there is nobody to part from; what was answered is durable.
    parent = Parent()
    parent.gone.add_done_callback(lambda _: os._exit(1))
    checks = load_checks(seat.checks) if seat.checks else None
    node = Node(seat.settings, checks, seat=seat.number, appends=seat.appends)
    await node.start()
    try:
        parent.answers_at(node.endpoint)
        failed = asyncio.ensure_future(node.wait_failed())
        await asyncio.wait({failed, parent.to_close}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            await failed
    finally:
        stopping = asyncio.create_task(_stop(node, parent))
        # A signal that comes meanwhile says what its parent has said.
        while not stopping.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(stopping)


async def _stop(node: Node, parent: Parent) -> None:
    await node.close_endpoint()
    # What the others have been asked may need this one's shards.
    await parent.closed()
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
