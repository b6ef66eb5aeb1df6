"""The app that a worker is told to run: found, or a clear word why not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtable.cli.loading import load_app
from streamtable.cli.output import Failure

SHOP = "from streamtable import App\nfrom sibling import NAME\napp = App(NAME)\n"


@pytest.fixture(autouse=True)
def imports_undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sibling.py").write_text("NAME = 'shop'\n")
    (tmp_path / "shop_of_test.py").write_text(SHOP)
    return tmp_path


def test_by_file_with_modules_beside_it(folder: Path) -> None:
    assert load_app(f"{folder}/shop_of_test.py:app").name == "shop"


def test_by_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_app("shop_of_test:app").name == "shop"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop_of_test.py", "name the app as path/to/file.py:variable or module:variable"),
        (":app", "name the app as"),
        ("shop_of_test.py:", "name the app as"),
        ("nothing.py:app", "there is no file nothing.py"),
        ("no_such_module:app", "there is no module no_such_module"),
        ("no_such.module:app", "there is no module no_such.module"),
        ("shop_of_test.py:shop", "shop_of_test.py has no 'shop'; it has app"),
        ("shop_of_test.py:NAME", "is no streamtable.App but str"),
    ],
)
def test_what_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(Failure, match=r"\A.+\Z") as caught:
        load_app(target)
    assert said in str(caught.value)
    assert not caught.value.details


@pytest.mark.parametrize("target", ["bad_of_test.py:app", "bad_of_test:app"])
@pytest.mark.parametrize("code", ["import no_such_library", "1 / 0", "raise SystemExit", "def"])
def test_a_module_that_fails_shows_its_own_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, code: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "bad_of_test.py").write_text(f"\n\n{code}\n")
    with pytest.raises(Failure, match="can't be imported, see above") as caught:
        load_app(target)
    details = caught.value.details
    assert 'bad_of_test.py", line 3' in details
    assert code in details or "SystemExit" in details
    assert "importlib" not in details
    assert "streamtable/cli" not in details
