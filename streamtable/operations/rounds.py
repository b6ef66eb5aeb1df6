"""Changes of tables, decided anew where another change of the same table came first."""

import asyncio
from typing import Any, Final

from streamtable.core.context import Handler, RequestContext
from streamtable.streams.catalog import ChangedMeanwhile

__all__ = ["in_rounds"]

_ROUNDS: Final = 20


def in_rounds(handler: Handler, turn: asyncio.Lock) -> Handler:
    """Return a handler that looks at the table again where its change came too late.

    So a change meets another one as if it had come after it: two that go together, such as two
    tags, are both made, and what does not is refused in the words of the rule that it breaks.

    Args:
        handler: finds the table, decides and makes its change with no wait in between.
        turn: held by who decides anew, so that those who came too late don't meet again.
    """

    async def handle(body: dict[str, Any], context: RequestContext) -> bytes | dict[str, Any]:
        try:
            return await handler(body, context)
        except ChangedMeanwhile:
            pass
        async with turn:
            for _ in range(_ROUNDS):
                try:
                    return await handler(body, context)
                except ChangedMeanwhile:
                    pass
            return await handler(body, context)

    return handle
