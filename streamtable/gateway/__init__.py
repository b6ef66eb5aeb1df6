"""The HTTP endpoint that AWS SDKs talk to."""

from streamtable.gateway.app import Gateway, Handler, Page, Post, create_app
from streamtable.gateway.limits import GatewayLimits
from streamtable.gateway.server import HttpServer, ListenError, PortTaken
from streamtable.gateway.streamed import StreamPage

__all__ = [
    "Gateway",
    "GatewayLimits",
    "Handler",
    "HttpServer",
    "ListenError",
    "Page",
    "PortTaken",
    "Post",
    "StreamPage",
    "create_app",
]
