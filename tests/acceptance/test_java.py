"""AWS's Java clients: the SDK's enhanced client, and the Kinesis Client Library on streams."""

import subprocess
from pathlib import Path

import pytest

from tests.support.commands import aws_environment, require
from tests.support.server import Server

pytestmark = pytest.mark.acceptance

BUILT = Path(__file__).parents[2] / ".cache" / "java"


def play(project: str, main: str, endpoint: str, table_name: str) -> None:
    java = require("java", "install Java 17 or newer and Maven to test with AWS's Java clients")
    if not (BUILT / project / "libs").exists():
        pytest.skip("AWS's Java clients are not built: make tools")
    # What starts quickly is enough for a client.
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    classes = f"{BUILT / project / 'classes'}:{BUILT / project / 'libs'}/*"
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    done = subprocess.run(
        [java, *options, quiet, "-cp", classes, main, endpoint, table_name],
        env=aws_environment(endpoint),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "round complete"


def test_a_round_with_the_enhanced_client(endpoint, table_name):
    play("enhanced", "EnhancedRound", endpoint, table_name)


def test_a_round_with_the_kinesis_client_library(new_server: Server, table_name):
    # Its adapter takes only streams of regions that AWS has.
    new_server.options = ("--region", "eu-central-1")
    play("kcl", "KclRound", new_server.start().endpoint, table_name)
