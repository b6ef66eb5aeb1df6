"""An app of one Lambda function, named as Lambda's configuration names it."""

import importlib
import os
import sys
from typing import Any

from streamtable.triggers.app import App
from streamtable.triggers.errors import InvalidDeclaration

__all__ = ["lambda_app"]


def lambda_app(handler: str, table: str, **options: Any) -> App:
    """Return an app with one trigger, the Lambda function `handler`.

    The app is named after the module and the trigger after the function, as long as `options`
    give no other `name`: the position in the log is kept under both. Variables of the environment
    that tell a function its name are set, as far as they are not.

    Args:
        handler: `module.function`, `package.module.function` or `path/module.function`; the
            current folder is put on the path, as Lambda does.
        table: the table whose changes it gets.
        options: further arguments of `App.lambda_trigger`.

    Raises:
        InvalidDeclaration: there is no such module or function, or an option is none.
        Exception: what the module raised when it was imported.
    """
    module_name, _, function_name = handler.replace("/", ".").rpartition(".")
    if not module_name or not function_name:
        raise InvalidDeclaration(f"{handler!r}: name the function as module.function")
    for variable, value in (
        ("_HANDLER", handler),
        ("AWS_LAMBDA_FUNCTION_NAME", function_name),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
    ):
        os.environ.setdefault(variable, value)
    here = os.getcwd()  # noqa: PTH109 - sys.path has strings
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InvalidDeclaration(f"{handler!r}: there is no module {module_name}") from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InvalidDeclaration(f"{handler!r}: {module_name} has no function {function_name}")
    app = App(module_name.replace(".", "-"))
    app.lambda_trigger(table, function, **{"name": function_name, **options})
    return app
