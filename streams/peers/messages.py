"""What calls between nodes carry, as JSON: images, outcomes, contexts and errors."""

from typing import Any, Final

import orjson

from streamtable.core import errors
from streamtable.core.context import RequestContext
from streamtable.core.errors import ApiError, InternalServerError
from streamtable.core.images import Image
from streamtable.streams.owner import Moved
from streamtable.streams.shard import Outcome

__all__ = [
    "GOODBYE",
    "context_from_json",
    "context_to_json",
    "error_from_json",
    "error_to_json",
    "image_from_json",
    "image_to_json",
    "outcome_from_json",
    "outcome_to_json",
]

Json = Any

GOODBYE: Final = 0
"""The number of the answer, to no call, that says that there are no more: what was called, and is
not answered, was not carried out."""

_ERRORS: Final[dict[str, type[ApiError]]] = {
    found.__name__: found
    for found in (Moved, *(getattr(errors, name) for name in errors.__all__))
    if isinstance(found, type) and issubclass(found, ApiError)
}


def image_to_json(image: Image | None) -> Json:
    """Return what `image_from_json` reads, once orjson has dumped it."""
    if image is None:
        return None
    return [orjson.Fragment(image.json), image.size_bytes, image.time, image.region]


def image_from_json(found: Json) -> Image | None:
    """Read an image."""
    return None if found is None else Image.of_item(*found)


def outcome_to_json(outcome: Outcome) -> Json:
    """Return what `outcome_from_json` reads; an image that is both is sent once."""
    same = outcome.new is outcome.old
    new = None if same else image_to_json(outcome.new)
    return [image_to_json(outcome.old), same, new, outcome.offset, outcome.place]


def outcome_from_json(found: Json) -> Outcome:
    """Read an outcome."""
    old, same, new, offset, place = found
    before = image_from_json(old)
    return Outcome(before, before if same else image_from_json(new), offset, place)


def context_to_json(context: RequestContext) -> Json:
    """Return what `context_from_json` reads."""
    return [context.request_id, context.principal, context.source_address, context.trace]


def context_from_json(found: tuple[str, str, str, str | None]) -> RequestContext:
    """Read who asks."""
    request_id, principal, source_address, trace = found
    return RequestContext(request_id, principal, source_address, trace=trace)


def error_to_json(error: ApiError) -> Json:
    """Return what `error_from_json` reads."""
    kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in _ERRORS), None)
    return [kind or InternalServerError.__name__, error.message, error.members]


def error_from_json(found: Json) -> ApiError:
    """Read an error; raise it as if it had been raised here."""
    name, message, members = found
    kind = _ERRORS.get(name, InternalServerError)
    # Some are made of other arguments than a message; what they end up with is the same for all.
    error = kind.__new__(kind)
    ApiError.__init__(error, message, **members)
    return error
