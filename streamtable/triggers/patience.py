"""Operations of a node that a worker can't do without."""

import asyncio
import logging
import time
from typing import Any, Final

from streamtable.control.state import CONDITION_FAILED, cancellation_codes
from streamtable.triggers.endpoint import Endpoint, NodeError, NodeUnavailable

__all__ = ["PatientCalls"]

logger = logging.getLogger(__name__)

_FIRST_S: Final = 0.05
_MOST_S: Final = 2.0
# Of ResourceNotFound: the first report makes the table that state is kept in.
_PASSING: Final = frozenset(
    {
        "RequestLimitExceeded",
        "ResourceNotFoundException",
        "ThrottlingException",
        "TransactionCanceledException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)


class PatientCalls:
    """Carries out operations again and again until the node has answered.

    What it is used for must be harmless when it is done twice: a write may have been made though
    its answer did not come.

    Args:
        endpoint: the node.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._until = float("inf")

    def hurry(self, limit_s: float) -> None:
        """Have no call tried again after so many seconds: the worker stops."""
        self._until = time.monotonic() + limit_s

    async def __call__(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Carry out one of DynamoDB's operations.

        Raises:
            NodeError: the node refuses it, for good.
            NodeUnavailable: the node did not answer, and the worker stops.
        """
        wait_s = _FIRST_S
        while True:
            try:
                return await self._endpoint.call(operation, body)
            except NodeUnavailable as error:
                if time.monotonic() > self._until:
                    raise
                logger.debug("%s is tried again: %s", operation, error)
            except NodeError as error:
                if not _passes(error) or time.monotonic() > self._until:
                    raise
                logger.debug("%s is tried again: %s", operation, error)
            await asyncio.sleep(wait_s)
            wait_s = min(_MOST_S, wait_s * 2)


def _passes(error: NodeError) -> bool:
    """Say whether it is worth asking again: not where a condition does not hold."""
    return error.code in _PASSING and CONDITION_FAILED not in cancellation_codes(error)
