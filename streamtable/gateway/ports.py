"""The endpoint's port: taken first, listened on when there is somebody who answers."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from streamtable.core.errors import StreamtableError

__all__ = ["ListenError", "PortTaken", "listen", "reserve"]


class ListenError(StreamtableError, OSError):
    """The endpoint's address cannot be listened on."""


class PortTaken(ListenError):
    """Another process listens on the endpoint's port."""


async def reserve(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a socket that has the port, and refuses connections until it listens.

    Nobody else can listen on the port from now on, other than who has reserved it, too: the first
    one of them to listen has it.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        shared: other processes listen on the port too; the system gives each some connections.

    Raises:
        PortTaken: another process listens on the port.
        ListenError: the address is not this machine's, or needs rights.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise ListenError(
            error.errno, f"{host!r} is no address of this machine: {error.strerror}"
        ) from error
    family, kind, protocol, _, address = found[0]
    reserved = socket.socket(family, kind, protocol)
    with _told(reserved, host, port):
        if os.name == "posix":  # elsewhere it would let two processes share the port
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    return reserved


def listen(reserved: socket.socket) -> None:
    """Have connections come in on a port that was reserved; on an error it is closed.

    Raises:
        PortTaken: another process was faster.
    """
    host, port, *_ = reserved.getsockname()
    with _told(reserved, host, port):
        reserved.listen(2048)
        reserved.setblocking(False)


@contextmanager
def _told(reserved: socket.socket, host: str, port: int) -> Iterator[None]:
    """Close a socket that does not get its address, and say why and what to do."""
    try:
        yield
    except OSError as error:
        reserved.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                error.errno,
                f"port {port} of {host} is taken by another process. Stop that process, or "
                "choose another port (0 takes any free one)",
            ) from error
        raise ListenError(
            error.errno, f"cannot listen on port {port} of {host}: {error.strerror}"
        ) from error
