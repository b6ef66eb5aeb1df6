"""What an operation's executor looks like."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from streamtable.core.context import RequestContext

__all__ = ["Handler"]

Handler: TypeAlias = Callable[[dict[str, Any], RequestContext], Awaitable[bytes | dict[str, Any]]]
"""From the parsed body of a request to the body of its answer; raises ApiError."""
