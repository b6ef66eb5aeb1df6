"""The log of requests that fail by no fault of their client's."""

import logging
import time
from collections.abc import Callable
from typing import Final

from streamtable.core.errors import ApiError

__all__ = ["Failures"]

logger = logging.getLogger(__name__)

_MOST: Final = 10
_SPAN_S: Final = 1.0


class Failures:
    """Tells of failures, ten in a second at most: an outage fails all requests there are.

    Args:
        now: the time, seconds from any start.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._told = 0
        self._left_out = 0

    def tell(self, operation: str, request_id: str, error: ApiError) -> None:
        """Log a request that was answered with an error of the service's."""
        now = self._now()
        if now - self._since >= _SPAN_S:
            if self._left_out:
                logger.warning("%d more requests failed meanwhile", self._left_out)
            self._since, self._told, self._left_out = now, 0, 0
        if self._told == _MOST:
            self._left_out += 1
            return
        self._told += 1
        logger.warning(
            "%s %s failed: %s",
            operation,
            request_id,
            error.message,
            extra={"operation": operation, "request_id": request_id, "status": error.status},
        )
