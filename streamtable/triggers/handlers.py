"""A trigger's function, and what its annotations ask for."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, get_args, get_origin

from streamtable.core.changes import Change as LogChange
from streamtable.core.plain import plain_item
from streamtable.core.positions import Position
from streamtable.triggers.change import Change
from streamtable.triggers.errors import InvalidHandler
from streamtable.triggers.item_types import ItemType
from streamtable.triggers.signatures import Signature

__all__ = ["Function", "Handler"]

Function: TypeAlias = Callable[..., Any]

_BATCHES: Final = frozenset({list, Sequence})


class Handler:
    """Calls a function with changes, typed as its first parameter's annotation says.

    Args:
        function: async, or plain: then it runs in a thread and may block.
        timeout_s: a call that takes longer has failed; None for as long as it takes.
        takes_window: the function takes a window as its second parameter.

    Raises:
        InvalidHandler: the function does not take these arguments, or its first annotation is
            neither `Change`, `Change[Model]` nor a list of them, with a model that pydantic
            knows how to validate.

    Attributes:
        name: the function's name.
        takes_batch: it takes a list of changes.
    """

    def __init__(
        self, function: Function, *, timeout_s: float | None = None, takes_window: bool = False
    ) -> None:
        signature = Signature.read(function)
        self.name = signature.name
        self._function = function
        self._is_async = signature.is_async
        self._timeout_s = timeout_s
        self._takes_window = takes_window
        if not signature.takes(2 if takes_window else 1):
            what = "changes and a window" if takes_window else "one change, or a list of changes"
            raise InvalidHandler(f"{signature.name}{signature.text} must take {what}")
        self.takes_batch, model = _first_parameter(signature)
        self._item = ItemType(model, signature.name)

    def change(self, change: LogChange, position: Position) -> Change[Any]:
        """Return what the function is to be called with for a change of the log.

        Raises:
            pydantic.ValidationError: an image does not fit the model.
        """
        old, new = change.old, change.new
        return Change(
            old=None if old is None else self._item.read(old.item),
            new=None if new is None else self._item.read(new.item),
            keys=plain_item(change.keys),
            event_name=change.event_name,
            table=change.table,
            position=position,
            version=f"{change.time}@{change.region}",
            request_id=change.request_id,
            principal=change.principal,
            created_at=datetime.fromtimestamp(change.created_ms / 1000, UTC),
        )

    async def call(self, change: Change[Any]) -> None:
        """Call the function and wait until it is done; what it raises is raised here."""
        if self._is_async:
            await self._function(change)
            return
        result = await asyncio.to_thread(self._function, change)
        if inspect.isawaitable(result):
            await result


def _first_parameter(signature: Signature) -> tuple[bool, Any]:
    """Return whether the first parameter takes a batch, and the model of its changes."""
    annotation = signature.annotations[0]
    takes_batch = get_origin(annotation) in _BATCHES or annotation in _BATCHES
    found = annotation
    if takes_batch:
        (found,) = get_args(annotation) or (None,)
    if found is None or found is Change:
        return takes_batch, None
    if get_origin(found) is not Change:
        raise InvalidHandler(
            f"{signature.name} takes {annotation!r}: a handler takes Change, Change[Model], or a "
            "list of them, list[Change[Model]]"
        )
    return takes_batch, get_args(found)[0]
