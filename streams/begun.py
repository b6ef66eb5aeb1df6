"""Work of which as much as can be done at once is done, and the rest when it is awaited."""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

__all__ = ["Begun"]

T = TypeVar("T")


class Begun(Generic[T]):
    """Awaited, once, for the outcome of what was begun.

    Several shards' parts of a request are begun one after the other and then awaited in turn:
    they go on at the same time, and none of them needs a task. What was begun is carried out
    whether it is awaited or not.

    Args:
        rest: what remains to be done, a coroutine function; its result is the outcome.
    """

    __slots__ = ("_rest",)

    def __init__(self, rest: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._rest = rest

    def __await__(self) -> Generator[Any, None, T]:
        """Do the rest."""
        return self._rest().__await__()
