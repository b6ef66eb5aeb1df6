"""What the shop's parts share: the database's client, and one way to print."""

import os
from datetime import datetime
from functools import cache
from typing import Any, Final

from botocore.config import Config
from botocore.session import get_session

ENDPOINT: Final = os.environ.get("STREAMTABLE_ENDPOINT", "http://127.0.0.1:8000")


@cache
def dynamodb() -> Any:
    """Return the DynamoDB client, the same one each time; threads may share it."""
    return get_session().create_client(
        "dynamodb",
        endpoint_url=ENDPOINT,
        region_name="local",
        aws_access_key_id="shop",
        aws_secret_access_key="shop",  # noqa: S106 - any credentials do
        config=Config(retries={"mode": "standard", "total_max_attempts": 4}),
    )


def say(who: str, what: str) -> None:
    """Print a line that says when and who."""
    line = f"{datetime.now():%H:%M:%S}  {who:8}  {what}\n"  # noqa: DTZ005 - for people here
    # With its end in one piece: worker and traffic share a terminal.
    print(line, end="", flush=True)
