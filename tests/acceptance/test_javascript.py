"""The AWS SDK for JavaScript v3, with its document client and its paginators."""

import subprocess
from pathlib import Path

import pytest

from tests.support.commands import aws_environment, require

pytestmark = pytest.mark.acceptance

FOLDER = Path(__file__).parent / "js"


def test_a_round_with_the_document_client(endpoint, table_name):
    node = require("node", "install Node.js 20 or newer to test with the JavaScript SDK")
    if not (FOLDER / "node_modules").exists():
        pytest.skip("the JavaScript SDK is not installed: make tools")
    done = subprocess.run(
        [node, "round.mjs", endpoint, table_name],
        cwd=FOLDER,
        env=aws_environment(endpoint),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "round complete"
