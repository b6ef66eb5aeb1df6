"""docs/dependencies.md gives a reason for each dependency; what is imported is a dependency."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
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


def imported() -> set[str]:
    """Return the top-level modules that the product imports."""
    found: set[str] = set()
    for folder in ["core", "streams", "consumers", "streamtable"]:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"streamtable"}


def test_every_import_is_a_declared_dependency():
    distributions = packages_distributions()
    allowed = declared()["At run time"] | declared()["Extras"]
    for module in sorted(imported()):
        names = {name.replace("_", "-") for name in distributions.get(module, [])}
        assert allowed & names, f"{module} is not declared"
