"""The second argument of a Lambda function."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

__all__ = ["LambdaContext"]


def _request_id() -> str:
    return str(uuid4())


@dataclass(slots=True)
class LambdaContext:
    """What a Lambda function is told about its invocation.

    Source: "Using the Lambda context object to retrieve Python function information".

    Attributes:
        function_name: the function's name.
        invoked_function_arn: an ARN with this name.
        timeout_s: how long the invocation may take.
        aws_request_id: another one for each invocation.
    """

    function_name: str
    invoked_function_arn: str
    timeout_s: float
    aws_request_id: str = field(default_factory=_request_id)
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "128"
    log_stream_name: str = "local"
    identity: Any = None
    client_context: Any = None
    tenant_id: str | None = None
    _monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)
    _began_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._began_s = self._monotonic()

    @property
    def log_group_name(self) -> str:
        """The name of the function's log group."""
        return f"/aws/lambda/{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        """Return how many milliseconds are left."""
        left_s = self._began_s + self.timeout_s - self._monotonic()
        return max(0, int(left_s * 1000))

    def log(self, message: str) -> None:
        """Write to the function's log, standard output."""
        print(message, end="", flush=True)  # noqa: T201 - as Lambda does
