"""What becomes of a change that is given up, as its trigger wants it."""

import logging

from streamtable.consumers.triggers.deliveries import Delivery
from streamtable.consumers.triggers.options import OnFailure

__all__ = ["is_kept"]

logger = logging.getLogger(__name__)


async def is_kept(
    name: str, how: OnFailure, delivery: Delivery | None, error: BaseException
) -> bool:
    """Call a trigger's `on_failure`, if it is a function; say whether the change becomes a letter.

    Args:
        name: the trigger's name, for the log.
        how: its `on_failure`.
        delivery: the change; None where it is gone.
        error: why it is given up.
    """
    if how == "drop":
        return False
    if delivery is None or isinstance(how, str):
        return True
    try:
        await how(delivery, error)
    except Exception:
        logger.exception("%s: its on_failure failed", name)
        return True
    return False
