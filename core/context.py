"""Who asks: what travels with a request from the gateway down to the commit."""

from dataclasses import dataclass

__all__ = ["RequestContext"]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The caller of one request, as the gateway saw it.

    Attributes:
        request_id: the id in the answer's `x-amzn-RequestId` header.
        principal: access key id in the request's signature; not proven until identities exist.
        source_address: the client's address.
    """

    request_id: str
    principal: str
    source_address: str
