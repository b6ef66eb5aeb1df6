"""DynamoDB's protocol without an SDK: what boto3 hides, at a quarter of its CPU."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

__all__ = ["Connection"]


class Connection:
    """One kept-open connection that sends signed requests, one after the other."""

    def __init__(self, endpoint: str, timeout_s: float = 60) -> None:
        self.endpoint = endpoint
        self._http = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=timeout_s)
        self._auth = SigV4Auth(Credentials("local", "local"), "dynamodb", "local")

    def call(self, operation: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer.

        Raises:
            OSError: the connection broke, or there was none: the outcome is unknown.
            http.client.HTTPException: it broke in the middle of an answer.
        """
        data = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        }
        request = AWSRequest("POST", f"{self.endpoint}/", headers, data)
        self._auth.add_auth(request)
        self._http.request("POST", "/", data, dict(request.headers))
        answer = self._http.getresponse()
        return answer.status, json.loads(answer.read())

    def ok(self, operation: str, **body: Any) -> dict[str, Any]:
        """Return the body of an answer that has to be a success."""
        status, answer = self.call(operation, **body)
        assert status == 200, (operation, status, answer)
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
