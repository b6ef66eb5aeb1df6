"""The HTTP endpoint that AWS SDKs talk to."""

from streamtable.gateway.app import Gateway, Handler, Page, create_app
from streamtable.gateway.limits import GatewayLimits
from streamtable.gateway.server import HttpServer, ListenError, PortTaken

__all__ = [
    "Gateway",
    "GatewayLimits",
    "Handler",
    "HttpServer",
    "ListenError",
    "Page",
    "PortTaken",
    "create_app",
]
