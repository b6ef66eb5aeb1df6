"""The event loop of nodes and workers: uvloop's, with less patience for a broker's goodbye."""

from typing import Any, Final

import uvloop

__all__ = ["Loop"]

_SHUTDOWN_S: Final = 0.5


class Loop(uvloop.Loop):
    """uvloop, whose TLS connections are closed within half a second.

    A broker that still works on a request does not answer TLS' goodbye, and uvloop waits for that
    for half a minute; so long would closing any consumer take that has a fetch under way.
    """

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        """Connect; see `asyncio.loop.create_connection`."""
        if options.get("ssl"):
            options.setdefault("ssl_shutdown_timeout", _SHUTDOWN_S)
        return await super().create_connection(*args, **options)
