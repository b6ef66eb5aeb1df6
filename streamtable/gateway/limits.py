"""What the endpoint takes at most, so that no client can exhaust it."""

from dataclasses import dataclass

__all__ = ["GatewayLimits"]

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """The limits of one endpoint.

    Attributes:
        body_bytes: the longest body of a request, as sent and unpacked (DynamoDB: 16 MB).
        buffered_bytes: what the bodies of all requests may hold together, while they arrive and
            until they are answered. Bodies that arrive in one piece (64 KB) are not counted.
        unread_bytes: what all answers together may hold that clients have not read yet; beyond it
            the connections that hold most are cut.
        requests: how many requests may be worked on at once.
        connections: how many connections may be open.
        header_bytes: the longest head of a request, to the precision of one read.
        request_timeout_s: how long a client may take to send a request, and how long it may stop
            reading an answer.
        keep_alive_s: how long a connection stays open between two requests.
        stop_s: how long requests may take to finish once the server is to stop.
        quiet_s: how long connections are waited for then that are between two requests. Who asks
            again and again does so within that time, and hears with its answer that it is the
            last; who does not looks, before it asks, whether its connection is still open.
    """

    body_bytes: int = 16 * _MB
    buffered_bytes: int = 256 * _MB
    unread_bytes: int = 256 * _MB
    requests: int = 2048
    connections: int = 4096
    header_bytes: int = 64 * 1024
    request_timeout_s: float = 60.0
    keep_alive_s: int = 75
    stop_s: int = 10
    quiet_s: float = 0.2
