"""A real S3 server for the tests: versitygw, built from Go's module proxy, on a folder.

It is built once into .cache/go; without Go, what needs it is skipped.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from tests.support.commands import Background
from tests.support.waiting import wait_until

__all__ = ["CREDENTIALS", "VERSION", "missing", "running"]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
}

VERSION = "v1.8.0"

_ROOT = Path(__file__).parents[2]
_BIN = _ROOT / ".cache" / "go"
_SERVER = _BIN / "versitygw"
_MODULE = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
_BUILD_S = 600


def missing() -> str | None:
    """Say why there is no S3 server here; None if there is one."""
    if _SERVER.exists() or shutil.which("go") is not None:
        return None
    return f"an S3 server is not in {_SERVER}, and there is no 'go' to build one"


@contextmanager
def running(folder: Path, port: int) -> Iterator[str]:
    """Run the server with a bucket `checkpoints`; yield its URL."""
    _build()
    (folder / "buckets").mkdir(parents=True)
    command = [str(_SERVER), "--access", "tester", "--secret", "secret"]
    command += ["--port", f"127.0.0.1:{port}", "posix", "--sidecar", str(folder / "side")]
    (folder / "side").mkdir()
    server = Background([*command, str(folder / "buckets")], folder / "s3.log")
    try:
        url = f"http://127.0.0.1:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="tester",
            aws_secret_access_key="secret",
        )

        def ready() -> bool:
            try:
                client.create_bucket(Bucket="checkpoints")
            except OSError:
                return False
            except Exception as error:
                if "connect" in str(error).lower():
                    return False
                raise
            return True

        wait_until(ready, "the S3 server to answer")
        yield url
    finally:
        server.kill()


def _build() -> None:
    if not _SERVER.exists():
        _BIN.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["go", "install", _MODULE],
            env={**os.environ, "GOBIN": str(_BIN)},
            check=True,
            timeout=_BUILD_S,
        )
