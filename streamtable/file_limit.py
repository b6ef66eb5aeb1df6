"""How many files the process may open."""

import contextlib
import resource

__all__ = ["raise_file_limit"]


def raise_file_limit() -> None:
    """Let the process open as many files and connections as it is allowed to.

    The soft limit is low for programs that can't deal with large descriptors (select(2)); none is
    used here. It stays where the system does not take the hard one.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
