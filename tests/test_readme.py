"""README.md's tour, run block by block against a server of its own.

A block is run when a comment stands before it: `<!-- run -->` to its end, `<!-- run beside -->` for
as long as the tour takes. `prints: TEXT` is what its output has to contain, `needs: PROGRAM` leaves
it out where there is no such program.
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commands import Background, aws_environment

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"^<!-- run(?P<beside> beside)?(, prints: (?P<prints>.*?))?( ?, needs: (?P<needs>\S+))? -->\n"
    r"```(?P<language>bash|python)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    beside: bool
    prints: str
    needs: str | None
    command: list[str]


def blocks(text: str) -> list[Block]:
    found = [
        Block(
            match["beside"] is not None,
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


def test_the_tour_runs_as_it_is_written(new_server, tmp_path):
    new_server.start()
    text = (ROOT / "README.md").read_text()
    text = text.replace("http://127.0.0.1:8000", new_server.endpoint)
    text = text.replace("127.0.0.1:19092", new_server.broker)
    exports = tmp_path / "exports"
    environment = aws_environment(new_server.endpoint) | {
        "EXPORTS": str(exports),
        "STREAMTABLE_ENDPOINT": new_server.endpoint,
    }
    beside: list[tuple[Block, Background]] = []
    with ExitStack() as stack:
        for number, block in enumerate(blocks(text)):
            if block.needs and shutil.which(block.needs) is None:
                continue
            if block.beside:
                output = tmp_path / f"block-{number}"
                running = Background(block.command, output, env=environment, cwd=ROOT)
                beside.append((block, stack.enter_context(running)))
                continue
            done = subprocess.run(
                block.command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=90,
                check=False,
            )
            assert done.returncode == 0, (block.command[-1], done.stdout)
            assert block.prints in done.stdout, block.command[-1]
            if exports.exists():
                pairs = exports.read_bytes().rstrip(b"\0").split(b"\0")
                environment = dict(os.fsdecode(pair).split("=", 1) for pair in pairs)
        for block, running in beside:
            running.wait_for(re.escape(block.prints), 60)


def test_every_link_leads_to_a_file():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_linked_from_the_end():
    end = (ROOT / "README.md").read_text().rpartition("\n## More\n")[2]
    linked = set(re.findall(r"\]\(([^)#]+)\)", end))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked
