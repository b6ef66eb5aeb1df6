"""A trigger's function, and what its annotation asks for."""

import asyncio
import inspect
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pydantic import PydanticUserError, TypeAdapter

from streamtable.core.changes import Change as LogChange
from streamtable.core.errors import StreamtableError
from streamtable.core.plain import plain_item
from streamtable.core.positions import Position
from streamtable.triggers.change import Change

__all__ = ["Function", "Handler", "InvalidHandler"]

Function: TypeAlias = Callable[[Change[Any]], Any]


class InvalidHandler(StreamtableError, TypeError):
    """A function that can't be a trigger's handler, as its signature shows."""


class Handler:
    """Calls a function with a change, typed as its first parameter's annotation says.

    Args:
        function: async, or plain: then it runs in a thread and may block.

    Raises:
        InvalidHandler: the function does not take one argument, or its annotation is neither
            `Change` nor `Change[Model]` with a model that pydantic knows how to validate.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function)
        self._model = _model(function)

    def change(self, change: LogChange, position: Position) -> Change[Any]:
        """Return what the function is to be called with.

        Raises:
            pydantic.ValidationError: an image does not fit the model.
        """
        old, new = (
            None if image is None else plain_item(image.item) for image in (change.old, change.new)
        )
        if self._model is not None:
            old = None if old is None else self._model.validate_python(old)
            new = None if new is None else self._model.validate_python(new)
        return Change(
            old=old,
            new=new,
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


def _model(function: Function) -> TypeAdapter[Any] | None:
    """Return what validates the model in the first parameter's annotation, None without one."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError as error:
        raise InvalidHandler(f"{name} has no signature that can be read") from error
    required = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind not in {parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD}
    ]
    if len(required) > 1 or not positional:
        raise InvalidHandler(f"{name}{inspect.signature(function)} must take one change")
    annotation = positional[0].annotation
    if isinstance(annotation, str):
        try:
            annotation = typing.get_type_hints(function)[positional[0].name]
        except NameError as error:
            raise InvalidHandler(
                f"{name}: the annotation {annotation!r} can't be resolved ({error}). Import its "
                "names where the module can see them when it runs"
            ) from error
    if annotation is inspect.Parameter.empty or annotation is Change:
        return None
    if typing.get_origin(annotation) is not Change:
        raise InvalidHandler(
            f"{name} takes {annotation!r}: a handler takes Change, or Change[Model]"
        )
    (model,) = typing.get_args(annotation)
    try:
        return TypeAdapter(model)
    except PydanticUserError as error:
        raise InvalidHandler(f"{name} takes {annotation!r}: {error.message}") from error
