"""The AWS SDK for JavaScript v3 with its document client and paginators; ElectroDB; Dynamoose."""

import subprocess
from pathlib import Path

import pytest

from tests.support.commands import aws_environment, require

pytestmark = pytest.mark.acceptance

FOLDER = Path(__file__).parent / "js"


@pytest.mark.parametrize("script", ["round.mjs", "electrodb.mjs", "dynamoose.mjs"])
def test_a_round(endpoint, table_name, script):
    node = require("node", "install Node.js 20 or newer to test with JavaScript clients")
    if not (FOLDER / "node_modules").exists():
        pytest.skip("the JavaScript clients are not installed: make tools")
    done = subprocess.run(
        [node, script, endpoint, table_name],
        cwd=FOLDER,
        env=aws_environment(endpoint),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "round complete"
