"""pyproject.toml names every package: one that is missing would be missing from the wheel only."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "streamtable": "streamtable",
    "core": "streamtable.core",
    "streams": "streamtable.streams",
    "consumers": "streamtable.consumers",
}


def test_every_folder_with_modules_is_a_package_that_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for folder, package in FOLDERS.items():
        for module in (ROOT / folder).rglob("*.py"):
            inner = module.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *inner]))
            assert (module.parent / "__init__.py").exists(), module.parent
    assert sorted(project["packages"]) == sorted(found)
