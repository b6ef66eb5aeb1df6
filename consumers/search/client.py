"""The official client of Elasticsearch, set up for bulk requests, and what its errors mean."""

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from elasticsearch import ApiError, AsyncElasticsearch, TransportError
from elasticsearch.serializer import OrjsonSerializer

__all__ = ["CLIENT_ERRORS", "error_text", "error_type", "open_elasticsearch"]

_REQUEST_S: Final = 30.0

CLIENT_ERRORS: Final = (ApiError, TransportError, aiohttp.ClientError, OSError)
"""What the client raises when Elasticsearch refuses a request, or is not there."""


def open_elasticsearch(url: str, *, api_key: str | None = None) -> AsyncElasticsearch:
    """Return a client that does not retry by itself; its owner closes it.

    No request is made: Elasticsearch may be down.

    Args:
        url: `http://host:port`, with `user:password@` where it wants that; or several nodes of
            one cluster with commas between them.
        api_key: the encoded form of an API key, in place of user and password.
    """
    serializer = OrjsonSerializer()
    return AsyncElasticsearch(
        url.split(","),
        api_key=api_key,
        request_timeout=_REQUEST_S,
        max_retries=0,
        retry_on_timeout=False,
        serializers={
            OrjsonSerializer.mimetype: serializer,
            "application/vnd.elasticsearch+json": serializer,
        },
    )


def error_type(error: BaseException) -> str:
    """Return Elasticsearch's own name of an error, "" if it is not one of its own."""
    body = error.body if isinstance(error, ApiError) else None
    details = body.get("error") if isinstance(body, Mapping) else None
    return str(details.get("type", "")) if isinstance(details, Mapping) else ""


def error_text(error: BaseException) -> str:
    """Return what went wrong, in one line for people."""
    if isinstance(error, ApiError):
        body: Any = error.body
        details = body.get("error") if isinstance(body, Mapping) else None
        if isinstance(details, Mapping):
            return f"{error.status_code} {details.get('type')}: {details.get('reason')}"
        return f"{error.status_code} {error.message}"
    # As text a transport's error leaves out which host it is about.
    text = error.message if isinstance(error, TransportError) else str(error)
    return f"{type(error).__name__}: {text}"
