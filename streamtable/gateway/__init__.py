"""The HTTP endpoint that AWS SDKs talk to."""

from streamtable.gateway.app import Gateway, Handler, Meter, Page, Post, create_app
from streamtable.gateway.content import Content
from streamtable.gateway.limits import GatewayLimits
from streamtable.gateway.ports import ListenError, PortTaken, reserve
from streamtable.gateway.server import HttpServer
from streamtable.gateway.streamed import StreamPage

__all__ = [
    "Content",
    "Gateway",
    "GatewayLimits",
    "Handler",
    "HttpServer",
    "ListenError",
    "Meter",
    "Page",
    "PortTaken",
    "Post",
    "StreamPage",
    "create_app",
    "reserve",
]
