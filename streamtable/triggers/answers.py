"""What a function's answer says about the changes of its batch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from streamtable.consumers.triggers.deliveries import BatchItemFailed, Delivery
from streamtable.core.positions import Position
from streamtable.triggers.change import Change
from streamtable.triggers.errors import InvalidAnswer

__all__ = ["FAILURES", "IDENTIFIER", "failed_changes"]

FAILURES: Final = "batchItemFailures"
IDENTIFIER: Final = "itemIdentifier"


def failed_changes(answer: Any, batch: Sequence[Delivery]) -> dict[int, BaseException]:
    """Return which changes of a batch have failed by the function's answer, and why.

    The answer is None or True: all are done; False: all have failed; or those that failed, as a
    list, or as Lambda has it, `{"batchItemFailures": [{"itemIdentifier": SEQUENCE_NUMBER}]}`,
    where an empty object says, as there, that all are done. In a list, a change is the `Change`
    itself, its position or its sequence number, or a pair of one of these and an exception that
    says why.

    Raises:
        InvalidAnswer: the answer says none of these, or names a change that is not in the batch.
    """
    if answer is None or answer is True:
        return {}
    if answer is False:
        return {
            index: BatchItemFailed("the function returned False") for index in range(len(batch))
        }
    if isinstance(answer, Mapping):
        if not answer:
            return {}
        if FAILURES not in answer:
            raise InvalidAnswer(f"the function returned {answer!r}: a dict has {FAILURES!r}")
        answer = answer[FAILURES] or ()
    if not isinstance(answer, Iterable) or isinstance(answer, (str, bytes)):
        raise InvalidAnswer(
            f"the function returned {answer!r}: return None, or a list of the changes that failed"
        )
    indexes = {delivery.position.sequence_number: at for at, delivery in enumerate(batch)}
    failed: dict[int, BaseException] = {}
    for each in answer:
        named, reason = each, None
        if isinstance(each, tuple) and len(each) == 2 and isinstance(each[1], BaseException):
            named, reason = each
        index = indexes.get(_sequence_number(named))
        if index is None:
            raise InvalidAnswer(
                f"the function said that {named!r} failed, which is not in its batch"
            )
        failed[index] = reason or BatchItemFailed("the function named it in its answer")
    return failed


def _sequence_number(named: Any) -> str:
    if isinstance(named, Change):
        return named.position.sequence_number
    if isinstance(named, Position):
        return named.sequence_number
    if isinstance(named, Mapping):
        named = named.get(IDENTIFIER)
    return named if isinstance(named, str) else ""
