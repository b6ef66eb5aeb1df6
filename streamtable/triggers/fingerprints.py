"""Short texts that are equal when what was declared is."""

import inspect
import textwrap
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import orjson

__all__ = ["code_fingerprint", "fingerprint"]


def fingerprint(declared: dict[str, Any]) -> str:
    """Return the fingerprint of a JSON document."""
    return _digest(orjson.dumps(declared, option=orjson.OPT_SORT_KEYS))


def code_fingerprint(function: Callable[..., Any]) -> str | None:
    """Return the fingerprint of a function's source text, None where there is none.

    What the function calls is not looked at.
    """
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return None
    return _digest(textwrap.dedent(source).encode())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
