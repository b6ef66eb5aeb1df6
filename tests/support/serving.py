"""What files that ship tell `streamtable serve`."""

from collections.abc import Sequence

from streamtable.settings import NodeSettings

__all__ = ["serve_options", "serve_settings"]

# Options of the command that are no settings of the node.
_OWN = {"log_format"}


def serve_options(arguments: Sequence[str]) -> dict[str, str]:
    """Return the options among the arguments, by their settings' names."""
    command, *options = arguments
    assert command == "serve"
    return {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(options[::2], options[1::2], strict=True)
    }


def serve_settings(arguments: Sequence[str]) -> NodeSettings:
    """Return the settings that a node has that is told so; a name that is no option is refused."""
    options = serve_options(arguments)
    return NodeSettings.model_validate({name: options[name] for name in options.keys() - _OWN})
