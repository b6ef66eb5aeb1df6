"""What a function takes, as its signature and its annotations say."""

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamtable.triggers.errors import InvalidHandler

__all__ = ["Signature"]


@dataclass(frozen=True, slots=True)
class Signature:
    """The positional parameters of a function.

    Attributes:
        name: the function's name, for errors.
        text: its parameters as they are written, for errors.
        annotations: what each positional parameter is annotated with, in order; None where it is
            not.
        required: how many of them have no default.
        is_async: calling the function gives a coroutine.
    """

    name: str
    text: str
    annotations: tuple[Any, ...]
    required: int
    is_async: bool

    @classmethod
    def read(cls, function: Callable[..., Any]) -> "Signature":
        """Read a function's signature; annotations that are strings are resolved.

        Raises:
            InvalidHandler: it has none, or an annotation can't be resolved.
        """
        name = getattr(function, "__qualname__", repr(function))
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            raise InvalidHandler(f"{name} has no signature that can be read") from error
        positional = []
        required = 0
        for parameter in signature.parameters.values():
            needed = parameter.default is parameter.empty
            if parameter.kind is parameter.KEYWORD_ONLY and needed:
                raise InvalidHandler(
                    f"{name}{signature}: {parameter.name} must have a default, it is never given"
                )
            if parameter.kind in {parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD}:
                continue
            positional.append(_annotation(function, name, parameter))
            if needed and parameter.kind is not parameter.VAR_POSITIONAL:
                required += 1
        return cls(
            name,
            str(signature),
            tuple(positional),
            required,
            inspect.iscoroutinefunction(function)
            or inspect.iscoroutinefunction(getattr(function, "__call__", None)),  # noqa: B004
        )

    def takes(self, count: int) -> bool:
        """Say whether the function can be called with so many positional arguments."""
        return self.required <= count <= len(self.annotations)


def _annotation(function: Callable[..., Any], name: str, parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return None
    if not isinstance(annotation, str):
        return annotation
    try:
        return typing.get_type_hints(_annotated(function))[parameter.name]
    except (NameError, TypeError, KeyError) as error:
        raise InvalidHandler(
            f"{name}: the annotation {annotation!r} can't be resolved ({error}). Import its "
            "names where the module can see them when it runs"
        ) from error


def _annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a partial one or a callable object stands for."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function
    called: Callable[..., Any] = type(function).__call__
    return called
