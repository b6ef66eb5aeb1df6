"""Apps that are declared in a TOML file, without Python.

    app = "catalog"

    [search.products]
    table = "products"
    index = "products"

    [search.products.mapping.properties]
    name = { type = "text" }
    price = { type = "double" }

Each table below `search` is a search, by its name; its keys are the arguments of `App.search`, but
for `transform`, which is Python. `app` is the app's name, the file's own unless told.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from streamtable.triggers.app import App
from streamtable.triggers.errors import InvalidDeclaration

__all__ = ["read_app"]

_ARGUMENTS: Final[Mapping[str, type]] = {
    "table": str,
    "index": str,
    "mapping": dict,
    "settings": dict,
    "was": str,
}
_TYPES: Final[Mapping[type, str]] = {str: "a text", dict: "a table"}


def read_app(path: Path) -> App:
    """Return the app that a file declares.

    Raises:
        InvalidDeclaration: the file can't be read, or something in it can't be as it is described.
        DuplicateName: two searches have one name.
    """
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise InvalidDeclaration(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidDeclaration(f"{path} is no TOML: {error}") from error
    _check_names(f"{path}", found, ("app", "search"))
    name = found.get("app", path.stem)
    _check_type(f"{path}: app", name, str)
    searches = found.get("search", {})
    _check_type(f"{path}: search", searches, dict)
    app = App(name)
    for search, arguments in searches.items():
        where = f"{path}: search.{search}"
        _check_type(where, arguments, dict)
        _check_names(where, arguments, tuple(_ARGUMENTS))
        for argument, value in arguments.items():
            _check_type(f"{where}.{argument}", value, _ARGUMENTS[argument])
        app.search(search, **arguments)
    return app


def _check_names(where: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = found.keys() - set(known)
    if unknown:
        raise InvalidDeclaration(
            f"{where} has {', '.join(sorted(unknown))}: what there is is {', '.join(known)}"
        )


def _check_type(where: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise InvalidDeclaration(f"{where} is {value!r}, and must be {_TYPES[wanted]}")
