"""A proxy before Elasticsearch that answers in its place when a test says so."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

__all__ = ["Proxy", "proxied"]


class Proxy:
    """What a test tells the proxy, and learns from it.

    Attributes:
        url: where it is.
        refuse: says by path and body with which status a request is answered, None to let it pass.
        lose: whether the answer to a request that was passed on is kept back.
        spoil: changes the JSON of an answer.
        bodies: what bulk requests came.
    """

    def __init__(self) -> None:
        self.url = ""
        self.refuse: Callable[[str, bytes], int | None] = lambda _path, _body: None
        self.lose: Callable[[str], bool] = lambda _path: False
        self.spoil: Callable[[str, dict[str, Any]], None] = lambda _path, _answer: None
        self.bodies: list[bytes] = []

    @property
    def requests(self) -> int:
        """How many bulk requests came."""
        return len(self.bodies)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """Run a proxy before `url` for as long as a `with` takes."""
    proxy = Proxy()
    async with aiohttp.ClientSession() as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            if request.path.endswith("/_bulk"):
                proxy.bodies.append(body)
            # Without it the client thinks that this is no Elasticsearch.
            headers = {"X-Elastic-Product": "Elasticsearch"}
            status = proxy.refuse(request.path, body)
            if status is not None:
                error: dict[str, Any] = {
                    "type": "es_rejected_execution_exception",
                    "reason": "busy",
                }
                return web.json_response({"error": error}, status=status, headers=headers)
            kept = {k: v for k, v in request.headers.items() if k in ("Content-Type", "Accept")}
            async with session.request(
                request.method, url + request.path_qs, data=body, headers=kept
            ) as answer:
                content = await answer.read()
                if proxy.lose(request.path):
                    assert request.transport is not None
                    request.transport.close()
                    await asyncio.Event().wait()
                if request.path.endswith("/_bulk"):
                    found = json.loads(content)
                    proxy.spoil(request.path, found)
                    content = json.dumps(found).encode()
                headers["Content-Type"] = answer.headers.get("Content-Type", "application/json")
                return web.Response(body=content, status=answer.status, headers=headers)

        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        proxy.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        try:
            yield proxy
        finally:
            await runner.cleanup()
