"""Making the number of shards larger, and waiting until that is done."""

import asyncio
import json
import urllib.request
from typing import Any

from tests.support.waiting import until

__all__ = ["page", "resharded"]


def page(endpoint: str, name: str, body: dict[str, Any] | None = None) -> Any:
    """Ask a node's page, or have it do something."""
    request = urllib.request.Request(
        f"{endpoint}/_streamtable/{name}",
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


async def resharded(endpoint: str, shards: int) -> dict[str, Any]:
    """Wait until a region has so many shards, and each only its own rows."""

    def done() -> Any:
        found = page(endpoint, "reshard")
        assert found["failed"] is None, found
        left = found["reshard"] or found["waiting"] or found["cleaning"]
        return found if found["shards"] == shards and not left else None

    return await until(lambda: asyncio.to_thread(done), f"{shards} shards", 60)
