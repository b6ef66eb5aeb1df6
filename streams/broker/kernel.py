"""fdatasync without a thread: Linux carries it out and tells the event loop through an eventfd.

A thread that waits for the disk costs 50 microseconds of CPU for each sync, and has to wait for the
interpreter's lock before it can say that the disk is done. Linux' native asynchronous I/O has the
same operation (IOCB_CMD_FDSYNC, since 4.18) for a third of that. Where it is not there (another
system, a sandbox) the broker's threads do the work. Source: io_submit(2), through caio.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from caio import linux_aio

__all__ = ["KernelSyncs"]

_MOST: Final = 128

Done = Callable[[Any, BaseException | None], None]


class KernelSyncs:
    """Syncs that the kernel carries out.

    Args:
        instead: called with a sync that the kernel does not take.

    Raises:
        OSError: this system does not do that.
    """

    def __init__(self, instead: Callable[[int, Done], None]) -> None:
        if linux_aio is None:
            raise OSError("no asynchronous fdatasync on this system")
        self._context = linux_aio.Context(_MOST)
        self._instead = instead
        self._wanted: list[tuple[int, Done]] = []
        self._waiting: dict[int, tuple[Any, Done]] = {}
        self._number = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._context.fileno, self._told)

    def submit(self, fd: int, done: Done) -> None:
        """Sync a file's data; `done(None, error)` is called in the loop when that has ended.

        The shards' syncs that are wanted in one turn of the loop are begun together at its end:
        half of what a sync costs is the call of the kernel.
        """
        if not self._wanted:
            self._loop.call_soon(self._begin)
        self._wanted.append((fd, done))
        self._idle.clear()

    def _begin(self) -> None:
        wanted, self._wanted = self._wanted, []
        room = _MOST - len(self._waiting)
        first = self._number + 1
        operations = []
        for number, (fd, done) in enumerate(wanted[:room], first):
            operation = linux_aio.Operation.fdsync(fd)
            operation.set_callback(partial(self._ended, number))
            self._waiting[number] = (operation, done)
            operations.append(operation)
        self._number += len(operations)
        begun = 0
        with suppress(OSError):
            begun = self._context.submit(*operations)
        for number, (fd, done) in enumerate(wanted[begun:], first + begun):
            self._waiting.pop(number, None)
            self._instead(fd, done)
        self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        if not self._waiting and not self._wanted:
            self._idle.set()

    async def stop(self) -> None:
        """Wait for every sync, with its callback, and let go of the kernel's part."""
        while not self._idle.is_set():  # a sync that ended may have begun the next one
            await self._idle.wait()
        self._loop.remove_reader(self._context.fileno)

    def _told(self) -> None:
        # The eventfd may be empty although something ended: the ring is looked at in any case.
        with suppress(BlockingIOError):
            self._context.poll()
        while self._context.process_events():
            pass

    def _ended(self, number: int, _result: int) -> None:
        operation, done = self._waiting.pop(number)
        self._look_whether_idle()
        error: OSError | None = None
        try:
            operation.get_value()
        except Exception as raised:  # noqa: BLE001 - SystemError, with the text of the errno
            error = OSError(str(raised))
        done(None, error)
