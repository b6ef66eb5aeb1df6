"""NextToken: where a SELECT goes on, for the same statement and parameters only."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Any

import orjson

from streamtable.core.errors import ApiError, ValidationError
from streamtable.core.keys import KeySchema
from streamtable.core.values import Item

__all__ = ["next_token", "read_token"]


def next_token(request: dict[str, Any], last: Item) -> str:
    """Return the token to go on with after an item.

    Args:
        request: the request that read it.
        last: the item's LastEvaluatedKey.
    """
    content = orjson.dumps({"statement": _digest(request), "key": last})
    return urlsafe_b64encode(content).decode()


def read_token(request: dict[str, Any], schema: KeySchema) -> Item | None:
    """Return the LastEvaluatedKey in the token of a request, None if the request has no token.

    Args:
        request: the request.
        schema: the attributes of the key.

    Raises:
        ValidationError: it is no token, or was given for another statement.
    """
    token = request.get("NextToken")
    if token is None:
        return None
    try:
        content = orjson.loads(urlsafe_b64decode(token.encode()))
        statement, raw = content["statement"], content["key"]
    except (ValueError, TypeError, KeyError):
        raise ValidationError("Invalid NextToken") from None
    if statement != _digest(request):
        raise ValidationError("NextToken does not match request")
    try:
        return schema.parse_key(raw)
    except ApiError:
        raise ValidationError("Invalid NextToken") from None


def _digest(request: dict[str, Any]) -> str:
    said = orjson.dumps(
        [request["Statement"], request.get("Parameters") or []], option=orjson.OPT_SORT_KEYS
    )
    return blake2b(said, digest_size=16).hexdigest()
