"""Lambda functions, called as Lambda's integration with DynamoDB Streams calls them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from streamtable.consumers.triggers.deliveries import Answer, BatchItemFailed, Delivery, Invoke
from streamtable.consumers.triggers.deliveries import Window as ShardWindow
from streamtable.core.lambda_events import EventSource, EventWindow, lambda_event
from streamtable.triggers.answers import FAILURES, IDENTIFIER
from streamtable.triggers.calls import Caller
from streamtable.triggers.errors import InvalidAnswer, InvalidHandler
from streamtable.triggers.event_sources import DescribeTable, EventSources
from streamtable.triggers.item_types import ItemType
from streamtable.triggers.lambda_context import LambdaContext
from streamtable.triggers.signatures import Signature

__all__ = ["LambdaHandler"]

_STATE: Final = "state"


class LambdaHandler:
    """Calls `handler(event, context)` with batches of changes.

    Args:
        function: the Lambda function.
        table: the table whose changes it gets.
        timeout_s: an invocation may take so long.
        report_batch_item_failures: what it returns under `batchItemFailures` counts.

    Raises:
        InvalidHandler: it does not take an event and a context.

    Attributes:
        name: the function's name.
        item: plain items, for a function that is told what was given up.
        takes_batch: always.
    """

    takes_batch: Final = True

    def __init__(
        self,
        function: Callable[..., Any],
        table: str,
        *,
        timeout_s: float,
        report_batch_item_failures: bool,
    ) -> None:
        signature = Signature.read(function)
        self._table = table
        self.name = signature.name
        self.item = ItemType(None, signature.name)
        self._timeout_s = timeout_s
        self._reports = report_batch_item_failures
        self._caller = Caller(
            function, signature.name, is_async=signature.is_async, timeout_s=timeout_s
        )
        if not signature.takes(2):
            raise InvalidHandler(
                f"{signature.name}{signature.text} must take an event and a context"
            )

    def bind(self, describe: DescribeTable) -> Invoke:
        """Return what the runtime calls with batches.

        Args:
            describe: asks for a table, so that events can name its stream.
        """
        sources = EventSources(describe)

        async def invoke(batch: Sequence[Delivery], window: ShardWindow | None) -> Answer:
            return await self._invoke(batch, window, sources)

        return invoke

    async def _invoke(
        self, batch: Sequence[Delivery], window: ShardWindow | None, sources: EventSources
    ) -> Answer:
        source = await sources.of(self._table)
        event = lambda_event(
            source,
            [(delivery.change, delivery.position) for delivery in batch],
            None if window is None else _event_window(window),
        )
        context = LambdaContext(self.name, _function_arn(source, self.name), self._timeout_s)
        return self._read(await self._caller.call(event, context), batch, window)

    def _read(self, answer: Any, batch: Sequence[Delivery], window: ShardWindow | None) -> Answer:
        """Say what the function's answer means.

        Raises:
            InvalidAnswer: it names an item that is not in the batch: all of it has failed.
        """
        if not isinstance(answer, Mapping):
            return Answer()
        state = None
        if window is not None and isinstance(answer.get(_STATE), dict):
            state = answer[_STATE]
        failures = answer.get(FAILURES) if self._reports else None
        if not failures:
            return Answer(state=state)
        # "Lambda uses the lowest sequence number as the checkpoint."
        lowest = min(_failed_indexes(failures, batch))
        why = BatchItemFailed("the function named it in batchItemFailures")
        return Answer({lowest: why}, checkpoint=lowest, state=state)


def _failed_indexes(failures: Any, batch: Sequence[Delivery]) -> list[int]:
    indexes = {delivery.position.sequence_number: at for at, delivery in enumerate(batch)}
    found = []
    for failure in failures if isinstance(failures, (list, tuple)) else [failures]:
        identifier = failure.get(IDENTIFIER) if isinstance(failure, Mapping) else None
        if identifier not in indexes:
            raise InvalidAnswer(
                f"the function's {FAILURES} names {failure!r}, which is not in its batch: an "
                f"{IDENTIFIER} is the SequenceNumber of a record"
            )
        found.append(indexes[identifier])
    return found


def _event_window(window: ShardWindow) -> EventWindow:
    return EventWindow(window.shard, window.start_ms, window.end_ms, window.state, window.final)


def _function_arn(source: EventSource, name: str) -> str:
    region, account = source.arn.split(":")[3:5]
    return f"arn:aws:lambda:{region}:{account}:function:{name}"
