"""A trigger's function, and what its annotations ask for."""

import inspect
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, get_args, get_origin

import orjson
from pydantic import ValidationError

from streamtable.consumers.triggers.deliveries import Answer, Delivery, Invoke, Rejected
from streamtable.consumers.triggers.deliveries import Window as ShardWindow
from streamtable.core.plain import plain_item
from streamtable.triggers.answers import failed_changes
from streamtable.triggers.calls import Caller
from streamtable.triggers.change import Change
from streamtable.triggers.errors import InvalidHandler
from streamtable.triggers.event_sources import DescribeTable
from streamtable.triggers.item_types import ItemType
from streamtable.triggers.signatures import Signature
from streamtable.triggers.window import Window

__all__ = ["Function", "Handler", "give_up", "public_change"]

Function: TypeAlias = Callable[..., Any]

_BATCHES: Final = frozenset({list, Sequence})
_PLAIN: Final = ItemType(None, "")


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
        item: makes the items of its changes.
        takes_batch: it takes a list of changes.
    """

    def __init__(
        self, function: Function, *, timeout_s: float | None = None, takes_window: bool = False
    ) -> None:
        signature = Signature.read(function)
        self.name = signature.name
        self._caller = Caller(
            function, signature.name, is_async=signature.is_async, timeout_s=timeout_s
        )
        if not signature.takes(2 if takes_window else 1):
            what = "changes and a window" if takes_window else "one change, or a list of changes"
            raise InvalidHandler(f"{signature.name}{signature.text} must take {what}")
        self.takes_batch, model = _first_parameter(signature)
        if takes_window and not self.takes_batch:
            raise InvalidHandler(
                f"{signature.name}{signature.text}: with tumbling_window_s a function takes "
                "(changes: list[Change], window: Window)"
            )
        self.item = ItemType(model, signature.name)

    async def invoke(self, batch: Sequence[Delivery], window: ShardWindow | None) -> Answer:
        """Call the function with a batch, as `streamtable.consumers.triggers` asks for it.

        A change whose item does not fit the model is rejected, and the function is not called
        with it, nor with later ones of the same item: those come again.

        Raises:
            Exception: the function raised, took too long or answered nonsense: all have failed.
        """
        failed: dict[int, BaseException] = {}
        blocked: set[bytes] = set()
        taken: list[int] = []
        changes: list[Change[Any]] = []
        for index, delivery in enumerate(batch):
            if blocked and _item_of(delivery) in blocked:
                continue
            try:
                changes.append(self.change(delivery))
                taken.append(index)
            except ValidationError as error:
                failed[index] = _rejected(error)
                blocked.add(_item_of(delivery))
        own = None if window is None else Window.of(window)
        if changes or own is not None:
            found = await self._call(changes, own)
            failed.update(
                (taken[at], reason)
                for at, reason in failed_changes(found, [batch[at] for at in taken]).items()
            )
        return Answer(failed, state=None if own is None else own.checked_state())

    def bind(self, describe: DescribeTable) -> Invoke:  # noqa: ARG002 - others ask for tables
        """Return what the runtime calls with batches."""
        return self.invoke

    def change(self, delivery: Delivery) -> Change[Any]:
        """Return what the function is to be called with for a change of the log.

        Raises:
            pydantic.ValidationError: an image does not fit the model.
        """
        return public_change(delivery, self.item)

    async def _call(self, changes: list[Change[Any]], window: Window | None) -> Any:
        """Call the function and return what it says about its batch."""
        if window is not None:
            return await self._caller.call(changes, window)
        if self.takes_batch:
            return await self._caller.call(changes)
        # What a function of one change returns says nothing: it has failed when it raises.
        for change in changes:
            await self._caller.call(change)
        return None


async def give_up(
    function: Callable[..., Any], item: ItemType, delivery: Delivery, error: BaseException
) -> None:
    """Call an `on_failure` function with a change that is given up, and why.

    A change that does not fit the model is given as plain dicts.

    Raises:
        Exception: what the function raised.
    """
    try:
        change = public_change(delivery, item)
    except ValidationError:
        change = public_change(delivery)
    name = getattr(function, "__qualname__", repr(function))
    is_async = inspect.iscoroutinefunction(function)
    await Caller(function, name, is_async=is_async, timeout_s=None).call(change, error)


def public_change(delivery: Delivery, item: ItemType | None = None) -> Change[Any]:
    """Return a change of the log as functions get it; as plain dicts without an item type."""
    item = item or _PLAIN
    change = delivery.change
    old, new = change.old, change.new
    return Change(
        old=None if old is None else item.read(old.item),
        new=None if new is None else item.read(new.item),
        keys=plain_item(change.keys),
        event_name=change.event_name,
        table=change.table,
        position=delivery.position,
        version=f"{change.time}@{change.region}",
        request_id=change.request_id,
        principal=change.principal,
        created_at=datetime.fromtimestamp(change.created_ms / 1000, UTC),
        attempts=delivery.attempts,
        expired=change.service is not None,
        _source=change,
    )


def _item_of(delivery: Delivery) -> bytes:
    return orjson.dumps(delivery.change.keys)


def _rejected(error: ValidationError) -> Rejected:
    rejected = Rejected(str(error))
    rejected.__cause__ = error
    return rejected


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
