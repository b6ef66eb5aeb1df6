"""Who asks: what travels with a request from the gateway down to the commit."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Handler", "RequestContext"]


@dataclass(slots=True)  # frozen, it takes four times as long to make, for each request
class RequestContext:
    """The caller of one request, as the gateway saw it. Never changed, but for `written`.

    Attributes:
        request_id: the id in the answer's `x-amzn-RequestId` header.
        principal: access key id in the request's signature; not proven until identities exist.
        source_address: the client's address.
        written: by shard the offset of the last record that the request has written; who carries
            it out fills it.
        trace: what its changes name as their cause in traces, see `streams.traces`; None where
            the request is not sampled.
    """

    request_id: str
    principal: str
    source_address: str
    written: dict[int, int] = field(default_factory=dict, compare=False)
    trace: str | None = None

    def note_written(self, shard: int, offset: int) -> None:
        """Note that the request has written a record; an offset below 0 is none."""
        if offset > self.written.get(shard, -1):
            self.written[shard] = offset


Handler: TypeAlias = Callable[[dict[str, Any], RequestContext], Awaitable[bytes | dict[str, Any]]]
"""An operation's executor: from the parsed body of a request to the body of its answer.

Raises ApiError.
"""
