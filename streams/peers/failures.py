"""What fails on this node while it does what another one asks: logged here, told there."""

import logging
from collections.abc import Awaitable
from typing import TypeVar

from streamtable.core.errors import ApiError, InternalServerError

__all__ = ["failed", "of_request"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def failed(what: str, request_id: str | None, error: BaseException) -> ApiError:
    """Return what the other node is told of an error; one that nobody foresaw is logged.

    Args:
        what: the operation, or the call.
        request_id: of the client's request that it was for, which the other node's log has, too;
            None where it is for none, or that is not known.
        error: what was raised.
    """
    if isinstance(error, ApiError):
        return error
    extra = {"operation": what}
    if request_id is not None:
        extra["request_id"] = request_id
    logger.error(
        "%s for another node failed",
        what if request_id is None else f"{what} {request_id}",
        exc_info=error,
        extra=extra,
    )
    return InternalServerError("The node that has the shard failed")


async def of_request(what: str, request_id: str, done: Awaitable[T], *meant: type[Exception]) -> T:
    """Return what is done for a request.

    Args:
        what: the operation, or the call.
        request_id: of the client's request.
        done: is awaited.
        meant: errors beside ApiError that whoever awaits this knows.

    Raises:
        ApiError: it can't be done, or fails; then that is logged.
    """
    try:
        return await done
    except ApiError:
        raise
    except Exception as error:
        if isinstance(error, meant):
            raise
        raise failed(what, request_id, error) from error
