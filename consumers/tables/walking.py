"""Ways through the rows of a RocksDB.

An iterator looks at its upper bound in the memory of its options, and does not keep them: who walks
holds them. Without them it ends too early or runs on into other tables.
"""

from collections.abc import Iterator

from rocksdict import Rdict, RdictIter, ReadOptions

from streamtable.core.images import Image

__all__ = ["keys", "rows", "values_below"]


def rows(
    db: Rdict, start: bytes, end: bytes, *, reverse: bool = False
) -> Iterator[tuple[bytes, Image]]:
    """Yield the rows with `start <= key < end`, as they are at the call, in order."""
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    found = db.iter(options)
    if reverse:
        found.seek_to_last()
        return _walk_back(found, start, options)
    found.seek(start)
    return _walk(found, options)


def keys(db: Rdict, start: bytes, end: bytes) -> Iterator[bytes]:
    """Yield the keys with `start <= key < end`, in order."""
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    found = db.iter(options)
    found.seek(start)
    while found.valid():
        yield found.key()
        found.next()


def values_below(db: Rdict, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what is kept under a prefix, the prefix cut off."""
    found = db.iter()
    found.seek(prefix)
    while found.valid() and (key := found.key()).startswith(prefix):
        yield key[len(prefix) :], found.value()
        found.next()


def _walk(found: RdictIter, _options: ReadOptions) -> Iterator[tuple[bytes, Image]]:
    while found.valid():
        yield found.key(), Image.decode(found.value())
        found.next()


def _walk_back(
    found: RdictIter, start: bytes, _options: ReadOptions
) -> Iterator[tuple[bytes, Image]]:
    while found.valid() and (key := found.key()) >= start:
        yield key, Image.decode(found.value())
        found.prev()
