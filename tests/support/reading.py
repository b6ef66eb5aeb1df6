"""Which names a function can look up: the strings in its code and in everything that it uses."""

import types
from collections.abc import Iterator
from typing import Any

_PACKAGE = "streamtable"


def names_read(function: Any) -> set[str]:
    """Return every string that a function's code, or code of ours that it refers to, holds.

    Followed are functions, classes, constants and modules' members by their names in the code,
    and what closures hold. So a name that is not among them is surely not looked up by that
    function; one that is may belong to something else.
    """
    found: set[str] = set()
    seen: set[int] = set()
    left = [function]
    while left:
        value = left.pop()
        if isinstance(value, str):
            found.add(value)
        elif id(value) not in seen:
            seen.add(id(value))
            left += _inside(value)
    return found


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list | set | frozenset):
        yield from value
    elif isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, staticmethod | classmethod | types.MethodType):
        yield value.__func__
    elif isinstance(value, property):
        yield value.fget
    elif hasattr(value, "__wrapped__"):
        yield value.__wrapped__
    elif isinstance(value, types.FunctionType):
        if _is_ours(value.__module__):
            yield from _inside_function(value)
    elif isinstance(value, type) and _is_ours(value.__module__):
        yield from value.__bases__
        yield from (
            member
            for member in vars(value).values()
            if isinstance(member, types.FunctionType | staticmethod | classmethod | property)
        )


def _inside_function(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        yield cell.cell_contents
    yield from function.__defaults__ or ()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                codes.append(constant)
            elif isinstance(constant, str | tuple | frozenset):
                # A docstring is one of these, and no single word.
                yield constant
        for name in code.co_names:
            known = function.__globals__.get(name)
            if isinstance(known, types.ModuleType):
                if _is_ours(known.__name__):
                    yield from (vars(known)[n] for n in code.co_names if n in vars(known))
            elif known is not None:
                yield known


def _is_ours(module: str | None) -> bool:
    return (module or "").split(".")[0] == _PACKAGE
