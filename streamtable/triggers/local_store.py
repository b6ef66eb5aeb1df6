"""A local store in which a change's result and the change itself are noted in one write.

A trigger is called at least once for each change. What it keeps here takes effect once: the
result and the change's position become durable together or not at all, and a change whose
position is noted is told to be a repetition.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson
from rocksdict import Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from streamtable.core.keys import after_prefix
from streamtable.core.plain import plain_value, wire_value
from streamtable.core.positions import Position
from streamtable.triggers.change import Change
from streamtable.triggers.errors import StoreInUse

__all__ = ["LocalBatch", "LocalStore"]

_VALUES: Final = b"v"
_DONE: Final = b"d"
_KEPT_MS: Final = 25 * 60 * 60 * 1000  # the log keeps a change for 24 hours
_PRUNE_EVERY: Final = 1000
_MISSING: Final = object()


class LocalStore:
    """Values by key in a folder of this machine, for the function of one trigger.

        store = LocalStore("totals")

        @app.trigger("orders", on="INSERT")
        def add_up(change: Change) -> None:
            with store.batch(change) as batch:
                if batch.is_new:
                    batch.put("total", batch.get("total", 0) + change.new["total"])

    The order in which changes come does not matter, and they may come from several threads. A
    noted change is forgotten 25 hours after it was handled, when the log has it no more. A value
    is what an attribute of an item can be; numbers come back as `Decimal`.

    The store is this machine's: shards that move to a worker elsewhere find another one. Use it
    with one worker, or for what each worker keeps for itself.

    Args:
        path: the folder; made if it is not there. One process has it open, once.
        sync: wait for the disk at each batch; without, a power failure may take the last ones
            back, while the worker's position in the log stays.
        now_ms: a clock, milliseconds since 1970.

    Raises:
        StoreInUse: it is open already, here or in another process.
        OSError: the folder can't be used.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        sync: bool = True,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._db = _open(Path(path), options)
        self._write_options = WriteOptions()
        self._write_options.sync = sync
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._written = 0

    def __enter__(self) -> Self:
        """Return the store; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the store; it can be opened again."""
        self._db.close()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key."""
        found = self._db.get(_VALUES + key.encode())
        return default if found is None else plain_value(orjson.loads(found))

    def items(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield keys that begin so with their values, in the order of the keys' UTF-8."""
        start = _VALUES + prefix.encode()
        options = ReadOptions()
        options.set_iterate_upper_bound(after_prefix(start))
        rows = self._db.iter(options)
        rows.seek(start)
        while rows.valid():
            key = rows.key()[len(_VALUES) :].decode()
            yield key, plain_value(orjson.loads(rows.value()))
            rows.next()

    def batch(self, change: Change[Any]) -> "LocalBatch":
        """Return a batch for the result of a change, to be used with `with`.

        One batch is open at a time, other threads wait for it. It is written at the end of the
        block, and not at all if the block raises. Don't await anything in the block.
        """
        return LocalBatch(self, change)

    def _begin(self) -> None:
        here = threading.get_ident()
        if self._holder == here:
            raise RuntimeError(
                "a batch is open in this thread already: finish it first, and don't await in it"
            )
        self._lock.acquire()
        self._holder = here

    def _end(self) -> None:
        self._holder = None
        self._lock.release()

    def _is_done(self, change: Change[Any]) -> bool:
        found = self._db.get(_place(change.position))
        # In a log that was begun anew, another change may have the position of one before.
        return found is not None and orjson.loads(found)["version"] == change.version

    def _write(self, change: Change[Any], values: dict[bytes, bytes | None]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in values.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        now_ms = self._now_ms()
        noted = {"version": change.version, "at_ms": now_ms}
        batch.put(_place(change.position), orjson.dumps(noted))
        if self._written % _PRUNE_EVERY == 0:
            self._prune(batch, now_ms)
        self._written += 1
        self._db.write(batch, self._write_options)

    def _prune(self, batch: WriteBatch, now_ms: int) -> None:
        """Forget the oldest positions of each shard, as far as they were handled long ago."""
        rows = self._db.iter()
        rows.seek(_DONE)
        while rows.valid() and rows.key().startswith(_DONE):
            if orjson.loads(rows.value())["at_ms"] < now_ms - _KEPT_MS:
                batch.delete(rows.key())
                rows.next()
            else:
                shard = rows.key()[: len(_DONE) + 4]
                rows.seek(after_prefix(shard))


class LocalBatch:
    """What a change leaves in a store; see `LocalStore.batch`.

    Attributes:
        is_new: the change has left nothing yet. If it is not, there is nothing to do.
    """

    def __init__(self, store: LocalStore, change: Change[Any]) -> None:
        self._store = store
        self._change = change
        self._values: dict[bytes, bytes | None] = {}
        self.is_new = False

    def __enter__(self) -> Self:
        """Begin the batch."""
        self._store._begin()  # noqa: SLF001 - its other half
        try:
            self.is_new = not self._store._is_done(self._change)  # noqa: SLF001
        except BaseException:
            self._store._end()  # noqa: SLF001
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the batch, unless the block raised or the change was done before."""
        try:
            if error is None and self.is_new:
                self._store._write(self._change, self._values)  # noqa: SLF001
        finally:
            self._store._end()  # noqa: SLF001

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, as the batch has left it so far."""
        found = self._values.get(_VALUES + key.encode(), _MISSING)
        if found is _MISSING:
            return self._store.get(key, default)
        return default if found is None else plain_value(orjson.loads(found))  # type: ignore[arg-type]

    def put(self, key: str, value: Any) -> None:
        """Have a key have a value.

        Raises:
            RuntimeError: the change was done before: ask `is_new` first.
            TypeError: the value is of a type that no attribute has.
        """
        self._check()
        self._values[_VALUES + key.encode()] = orjson.dumps(wire_value(value))

    def delete(self, key: str) -> None:
        """Have a key have no value.

        Raises:
            RuntimeError: the change was done before: ask `is_new` first.
        """
        self._check()
        self._values[_VALUES + key.encode()] = None

    def _check(self) -> None:
        if not self.is_new:
            raise RuntimeError(
                f"the change at {self._change.position} was done before: ask batch.is_new first"
            )


def _open(path: Path, options: Options) -> Rdict:
    try:
        return Rdict(str(path), options)
    except Exception as error:
        # RocksDB's errors have no type of their own.
        if "lock" in str(error).lower():
            raise StoreInUse(
                f"the local store {path} is open already, in this process or in another one: one "
                "worker has it at a time, and opens it once"
            ) from error
        raise OSError(f"the local store {path} can't be opened: {error}") from error


def _place(position: Position) -> bytes:
    shard = position.shard.to_bytes(4, "big")
    return _DONE + shard + position.offset.to_bytes(8, "big") + position.index.to_bytes(4, "big")
