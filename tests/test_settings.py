"""NodeSettings, the options of `streamtable serve` and docs/settings.md say the same."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import ValidationError

from streamtable.cli.main import app
from streamtable.settings import NodeSettings

PAGE = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
ROWS = {
    name: (option, default.strip())
    for name, option, default in re.findall(
        r"^\| `(\w+)` \| `(--[\w-]+)` \|([^|]*)\|", PAGE, re.MULTILINE
    )
}
# The one of a setting that the log decides where it is None.
DEFAULT_SHARDS = "4"


@pytest.fixture(scope="module")
def options():
    group: Any = typer.main.get_command(app)
    return {
        parameter.opts[0]: parameter
        for parameter in group.commands["serve"].params
        if parameter.param_type_name == "option"
    }


def test_each_setting_has_a_row_and_an_option():
    assert set(ROWS) == set(NodeSettings.model_fields)
    assert {name: option for name, (option, _) in ROWS.items()} == {
        name: "--" + name.replace("_", "-") for name in ROWS
    }


def test_each_option_is_a_setting_or_explained(options):
    settings = {option for option, _ in ROWS.values()}
    assert settings <= set(options)
    for option in set(options) - settings - {"--help"}:
        assert f"`{option}`" in PAGE


@pytest.mark.parametrize("name", ROWS)
def test_the_defaults_agree(options, name):
    option, told = ROWS[name]
    default = NodeSettings.model_fields[name].default
    assert options[option].default == default or str(options[option].default) == str(default)
    if name == "shards":
        assert told == DEFAULT_SHARDS
    else:
        assert told == ("" if default is None else str(default))


@pytest.mark.parametrize("address", ["node-1:8001", "10.0.0.7:1", "[fd00::7]:65535"])
def test_an_address_for_other_nodes(address):
    assert NodeSettings(advertise=address).advertise == address


@pytest.mark.parametrize(
    "address",
    ["node-1", ":8001", "node-1:", "node-1:0", "node-1:65536", "::1:8001", "a b:1", "[]:1"],
)
def test_what_is_no_address(address):
    with pytest.raises(ValidationError, match=r"should be host:port, an IPv6 address in brackets"):
        NodeSettings(advertise=address)
