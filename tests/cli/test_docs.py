"""docs/cli.md names every command and every option, and no others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from streamtable.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
EVERYWHERE = {"--help", "-h", "--version", "--install-completion", "--show-completion"}


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(typer.main.get_command(app), "streamtable"))
SECTIONS = {
    re.sub(r"( [A-Z]+)+$", "", title): text
    for title, text in re.findall(r"^## (.+)\n((?:(?!## ).*\n)+)", PAGE, re.MULTILINE)
}


def test_each_command_has_a_section_and_each_section_a_command() -> None:
    assert set(SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_in_its_commands_section(name: str) -> None:
    options = {
        option
        for parameter in COMMANDS[name].params
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    documented = {
        option
        for row in re.findall(r"^\| (`-.+?) \|", SECTIONS[name], re.MULTILINE)
        for option in re.findall(r"`(-[^`]+)`", row)
    }
    assert documented == options - EVERYWHERE


def test_the_options_of_all_commands_are_explained() -> None:
    head = PAGE.partition("\n## ")[0]
    assert {
        option for option in EVERYWHERE if f"`{option}`" in head or option in head
    } == EVERYWHERE
