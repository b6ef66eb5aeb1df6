"""How many files a process may have open: each shard takes some."""

import resource
from typing import Final

from streamtable.core.errors import StreamtableError

__all__ = ["TooFewOpenFiles", "check_open_files", "open_files_advice"]

# Its RocksDB has six and its files, its partitions on an embedded broker have three.
_EACH: Final = 16
_ELSE: Final = 100


class TooFewOpenFiles(StreamtableError, OSError):
    """The process may not have as many files open as its shards need."""


def check_open_files(shards: int) -> None:
    """Check that a process may have the files of so many shards open, an embedded broker's too.

    Raises:
        TooFewOpenFiles: it may not.
    """
    needed = _ELSE + _EACH * shards
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise TooFewOpenFiles(f"{shards} shards need {needed} open files. {open_files_advice()}")


def open_files_advice() -> str:
    """What to do where too many files are open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"This process may have {limit}: raise the limit before it starts (`ulimit -n`, "
        "`LimitNOFILE` of systemd, `ulimits` of containers), or spread the shards over more nodes."
    )
