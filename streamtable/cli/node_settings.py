"""A node's settings from a command's options."""

from typing import TYPE_CHECKING, Any

from streamtable.cli.output import Failure

if TYPE_CHECKING:
    from streamtable.settings import NodeSettings

__all__ = ["settings_of"]


def settings_of(**options: Any) -> "NodeSettings":
    """Return the settings that options say.

    Raises:
        Failure: one of them is not right.
    """
    from pydantic import ValidationError

    from streamtable.settings import NodeSettings

    try:
        return NodeSettings(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        option = str(problem["loc"][0]).replace("_", "-")
        raise Failure(f"--{option} {problem['input']}: {problem['msg']}") from error
