"""Calls of a trigger's function as steps of the traces that its changes are part of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamtable.consumers.triggers.deliveries import Answer, Delivery, Invoke, Window

if TYPE_CHECKING:
    from streamtable.tracing import Traces

__all__ = ["traced"]


def traced(invoke: Invoke, traces: "Traces", name: str) -> Invoke:
    """Return what calls a function, and tells of the calls that have a traced change.

    Args:
        invoke: calls the function.
        traces: is told.
        name: what the calls are called in traces.
    """

    async def call(batch: Sequence[Delivery], window: Window | None) -> Answer:
        causes = {each.change.trace: None for each in batch if each.change.trace is not None}
        if not causes:
            return await invoke(batch, window)
        first = batch[0]
        known = {"changes": len(batch), "attempt": first.attempts, "shard": first.position.shard}
        step = traces.begin(name, [*causes], known)
        try:
            with step.current():
                answer = await invoke(batch, window)
        except BaseException as error:
            step.end(error)
            raise
        step.end(next(iter(answer.failed.values()), None), failed=len(answer.failed))
        return answer

    return call
