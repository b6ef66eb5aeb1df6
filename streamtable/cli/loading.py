"""Finds the app that a worker is to run, in a user's file or module."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from streamtable.cli.output import Failure
from streamtable.control.checks import Checks
from streamtable.core.errors import StreamtableError
from streamtable.triggers import App
from streamtable.triggers.declarations import read_app
from streamtable.triggers.lambda_apps import lambda_app

__all__ = ["load_app", "load_checks", "load_handler"]

_OWN_FRAMES: Final = ("streamtable.", "importlib")


def load_app(target: str) -> App:
    """Import `path/to/file.py:variable` or `module:variable` and return the app.

    `path/to/file.toml` is an app that is declared without Python, see `triggers.declarations`. The
    file's folder, or the current one, is put first on the path, as `python` does.

    Raises:
        Failure: there is no such file, module or app; or the module can't be imported, with the
            traceback of its own code.
    """
    if target.endswith(".toml"):
        return read_app(Path(target))
    where, separator, variable = target.rpartition(":")
    if not separator or not where or not variable:
        raise Failure(f"{target!r}: name the app as path/to/file.py:variable or module:variable")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    try:
        found = getattr(module, variable)
    except AttributeError:
        names = [name for name, value in vars(module).items() if isinstance(value, App)]
        hint = f"; it has {', '.join(names)}" if names else ""
        raise Failure(f"{where} has no {variable!r}{hint}") from None
    if not isinstance(found, App):
        raise Failure(f"{target} is no streamtable.App but {type(found).__name__}")
    return found


def load_handler(handler: str, table: str, options: Mapping[str, Any]) -> App:
    """Return an app that gives a table's changes to a Lambda function, `module.function`.

    Args:
        handler: the function.
        table: the table.
        options: further arguments of `App.lambda_trigger`.

    Raises:
        Failure: the module can't be imported, with the traceback of its own code.
        InvalidDeclaration: there is no such module or function, or an option is none.
    """
    try:
        return lambda_app(handler, table, **options)
    except StreamtableError:
        raise
    except (Exception, SystemExit) as error:
        raise _import_failure(handler, error) from error


def load_checks(targets: Iterable[str]) -> Checks:
    """Import apps as `load_app` does, and return their checks.

    Raises:
        Failure: as for `load_app`; or an app has no checks.
    """
    apps = []
    for target in targets:
        app = load_app(target)
        if not app.checks:
            raise Failure(f"the app {app.name} in {target} has no checks")
        apps.append(app)
    return Checks(apps)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise Failure(f"there is no file {path}")
    sys.path.insert(0, str(path.parent.absolute()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _import_failure(str(path), error) from error
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path has strings
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise Failure(f"there is no module {name}") from None
        raise _import_failure(name, error) from error


def _import_failure(what: str, error: BaseException) -> Failure:
    """Return a failure with the user's part of the traceback."""
    trace = error.__traceback__
    while trace is not None and _is_own(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    return Failure(f"{what} can't be imported, see above", "".join(lines).rstrip())


def _is_own(module: str) -> bool:
    return module.startswith(_OWN_FRAMES)
