"""Ports of this machine that nobody listens on."""

import contextlib
import socket

__all__ = ["free_port", "free_ports"]


def free_ports(count: int) -> list[int]:
    """Return different ports that were free just now."""
    with contextlib.ExitStack() as open_sockets:
        ports = []
        for _ in range(count):
            one = open_sockets.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
        return ports


def free_port() -> int:
    """Return a port that was free just now."""
    return free_ports(1)[0]
