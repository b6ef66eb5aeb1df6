"""aiobotocore: waiters, paginators, many requests at once, transactions and streams in asyncio."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import aws_environment

pytestmark = pytest.mark.acceptance

ROUND = Path(__file__).parent / "aiobotocore" / "round.py"
INSTALLED = Path(__file__).parents[2] / ".cache" / "aiobotocore"


def test_a_round_with_many_requests_at_once(endpoint, table_name):
    if not (INSTALLED / ".installed").exists():
        pytest.skip("aiobotocore is not installed: make tools")
    done = subprocess.run(
        [sys.executable, str(ROUND), endpoint, table_name],
        # What is found here comes before what is installed beside the product.
        env=aws_environment(endpoint) | {"PYTHONPATH": str(INSTALLED)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "round complete"
