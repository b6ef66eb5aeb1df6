"""docs/dependencies.md gives a reason for each dependency, and for nothing else."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def declared() -> dict[str, set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()

    def names(requirements):
        return {re.split(r"[^A-Za-z0-9-]", text, maxsplit=1)[0] for text in requirements}

    return {
        "At run time": names(project["project"]["dependencies"]),
        "Extras": {name for extra in extras for name in names(extra)},
        "For development": names(project["dependency-groups"]["dev"]),
        "To build": names(project["build-system"]["requires"]),
    }


def documented() -> dict[str, set[str]]:
    sections = (ROOT / "docs" / "dependencies.md").read_text().split("\n## ")[1:]
    return {
        section.split("\n", 1)[0]: set(re.findall(r"^\| ([a-z0-9-]+) \|", section, re.MULTILINE))
        - {"package"}
        for section in sections
    }


def test_every_dependency_has_its_reason():
    assert documented() == declared()
