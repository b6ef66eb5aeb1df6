"""Ports of this machine that nobody listens on."""

import contextlib
import random
import socket
from typing import Final

__all__ = ["free_port", "free_ports"]

# Systems take the ports of connections that are opened from above these, so a port of these stays
# free until its server is there, and while it is down.
_PORTS: Final = range(10_000, 30_000)


def free_ports(count: int) -> list[int]:
    """Return different ports that were free just now."""
    with contextlib.ExitStack() as open_sockets:
        ports: list[int] = []
        while len(ports) < count:
            one = open_sockets.enter_context(socket.socket())
            # Another run of the tests looks for ports too, so it is not the first that is free.
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", random.choice(_PORTS)))
                ports.append(one.getsockname()[1])
        return ports


def free_port() -> int:
    """Return a port that was free just now."""
    return free_ports(1)[0]
