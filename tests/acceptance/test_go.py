"""The AWS SDK for Go v2: its paginators, waiters, expressions and streams; and guregu/dynamo."""

import subprocess
from pathlib import Path

import pytest

from tests.support.commands import aws_environment

pytestmark = pytest.mark.acceptance

BUILT = Path(__file__).parents[2] / ".cache" / "go" / "sdk" / "round"


def test_a_round_with_the_sdk_and_a_mapper(endpoint, table_name):
    if not BUILT.exists():
        pytest.skip("the round with the Go SDK is not built: install Go, and make tools")
    done = subprocess.run(
        [BUILT, endpoint, table_name],
        env=aws_environment(endpoint),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "round complete"
