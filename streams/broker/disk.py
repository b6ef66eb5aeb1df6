"""The blocking half of the broker: what waits for the disk, away from the event loop.

Writes into the page cache are made where they arise; what waits for the device (fdatasync, cold
reads, deletions) is handed over here and calls back in the loop.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from streamtable.streams.broker.kernel import KernelSyncs

__all__ = ["Disk", "sync_all", "sync_file", "sync_folder", "write_all"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]
Job = tuple[Callable[[], Any], Done]


def write_all(fd: int, data: bytes | memoryview, position: int) -> None:
    """Write all of `data` at a position of a file, into the page cache.

    Raises:
        OSError: part of it may have been written.
    """
    written = os.pwrite(fd, data, position)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], position + written)


def sync_file(fd: int) -> None:
    """Wait until a file's data are on the device."""
    os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the device."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Disk:
    """Jobs for the disk that end with a callback in the event loop.

    A pool of threads, leaner than `run_in_executor`: no futures, no locks of its own, one wake-up
    of the loop for each job. Jobs start in the order in which they were given; they may end in
    another.

    Args:
        threads: how many.
        kernel_syncs: let Linux sync without a thread, where it can.
    """

    def __init__(self, threads: int, *, kernel_syncs: bool = True) -> None:
        self._kernel: KernelSyncs | None = None
        if kernel_syncs:
            with suppress(OSError):
                self._kernel = KernelSyncs(self._sync_in_thread)
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"broker-disk-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def sync(self, fd: int, done: Done) -> None:
        """Have a file's data brought to the device, then call `done(None, error)` in the loop."""
        if self._kernel is not None:
            self._kernel.submit(fd, done)
        else:
            self._sync_in_thread(fd, done)

    def _sync_in_thread(self, fd: int, done: Done) -> None:
        self.submit(partial(sync_file, fd), done)

    def submit(
        self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]
    ) -> None:
        """Run `job` in a thread, then `done(result, error)` in the loop."""
        self._jobs.put((job, done))

    async def run(self, job: Callable[[], T]) -> T:
        """Run `job` in a thread and wait for it; it is finished even if the waiter is cancelled."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.submit(job, done)
        result: T = await future
        return result

    async def stop(self) -> None:
        """Finish every job, with its callback, and end the threads."""
        if self._kernel is not None:
            await self._kernel.stop()
            self._kernel = None
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await self._loop.run_in_executor(None, thread.join)

    def _work(self) -> None:
        for job, done in iter(self._jobs.get, None):
            result, error = None, None
            try:
                result = job()
            except BaseException as raised:  # noqa: BLE001 - it is given to the one who waits
                error = raised
            try:
                self._loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:
                logger.warning("the event loop ended before the broker was stopped")
                return


def sync_all(fds: Iterable[int], folder: Path | None) -> None:
    """Sync files in order, and then the folder that holds them, where it is named."""
    for fd in fds:
        sync_file(fd)
    if folder is not None:
        sync_folder(folder)
