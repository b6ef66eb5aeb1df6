"""README.md's tour, run block by block against a server of its own.

A block is run when a comment stands before it: `<!-- run -->` to its end, `<!-- run beside -->` for
as long as the tour takes, `<!-- run fails -->` to its end in an error, `<!-- run eventually -->`
until it prints what it has to. `prints: TEXT` is what its output has to contain, `needs: PROGRAM`
leaves it out where there is no such program.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.support.commands import Background, aws_environment
from tests.support.server import Server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parent.parent
CHECKS = ("--checks", "examples/shop/checks.py:app")
BLOCK = re.compile(
    r"^<!-- run( (?P<how>beside|fails|eventually))?"
    r"(, prints: (?P<prints>.*?))?( ?, needs: (?P<needs>\S+))? -->\n"
    r"```(?P<language>bash|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    how: str | None
    prints: str
    needs: str | None
    command: list[str]


def blocks(text: str) -> list[Block]:
    found = [
        Block(
            match["how"],
            match["prints"] or "",
            match["needs"],
            # What a block exports, the next ones see.
            [sys.executable, "-c", match["code"]]
            if match["language"] == "python"
            else ["bash", "-euo", "pipefail", "-c", match["code"] + '\nenv -0 > "$EXPORTS"'],
        )
        for match in BLOCK.finditer(text)
    ]
    assert len(found) == text.count("<!-- run"), "a mark that is not understood"
    return found


def run(block: Block, environment: dict[str, str]) -> str:
    """Run a block to its end, as it is to end; return what it printed."""
    done = subprocess.run(
        block.command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode != 0) == (block.how == "fails"), (block.command[-1], done.stdout)
    return done.stdout


@pytest.fixture
def shop_rules(tmp_path):
    """A node that is started as the tour says."""
    made = Server(tmp_path / "data", *CHECKS)
    made.start()
    yield made
    made.stop()


def test_the_tour_runs_as_it_is_written(shop_rules, tmp_path):
    text = (ROOT / "README.md").read_text()
    assert f'make run ARGS="{" ".join(CHECKS)}"' in text
    text = text.replace("http://127.0.0.1:8000", shop_rules.endpoint)
    text = text.replace("127.0.0.1:19092", shop_rules.broker)
    # What make does, without an environment of its own.
    text = text.replace("\nmake shop\n", f"\n{sys.executable} examples/shop/run.py\n")
    exports = tmp_path / "exports"
    environment = aws_environment(shop_rules.endpoint) | {
        "EXPORTS": str(exports),
        "STREAMTABLE_ENDPOINT": shop_rules.endpoint,
        # Nothing listens there, whatever runs on this machine.
        "STREAMTABLE_ELASTICSEARCH": "http://127.0.0.1:1",
    }
    beside: list[Background] = []
    with ExitStack() as stack:
        for number, block in enumerate(blocks(text)):
            if block.needs and shutil.which(block.needs) is None:
                continue
            if block.how == "beside":
                output = tmp_path / f"block-{number}"
                running = Background(block.command, output, env=environment, cwd=ROOT)
                beside.append(stack.enter_context(running))
                # As a reader looks before going on.
                running.wait_for(re.escape(block.prints), 60)
                continue
            if block.how == "eventually":
                again = partial(run, block, environment)
                wait_until(lambda: block.prints in again(), block.command[-1], 60)  # noqa: B023
            else:
                assert block.prints in run(block, environment), block.command[-1]
            if exports.exists():
                pairs = exports.read_bytes().rstrip(b"\0").split(b"\0")
                environment = dict(os.fsdecode(pair).split("=", 1) for pair in pairs)
        beside[0].wait_for("Welcome, Grace!", 60)


def test_every_link_leads_to_a_file():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_linked_from_the_end():
    end = (ROOT / "README.md").read_text().rpartition("\n## More\n")[2]
    linked = set(re.findall(r"\]\(([^)#]+)\)", end))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked
