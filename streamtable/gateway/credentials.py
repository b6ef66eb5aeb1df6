"""Who signed a request, by its `Authorization` header or its query parameters.

The parameters of the signature are read and must be complete; the signature itself is not
verified. Source: AWS Signature Version 4; the messages are DynamoDB's.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, NamedTuple
from urllib.parse import parse_qs

from streamtable.core.errors import ApiError

__all__ = [
    "Credential",
    "IncompleteSignature",
    "InvalidSignature",
    "MissingAuthenticationToken",
    "read_credential",
]

_CORAL = "com.amazon.coral.service#"
# Longer ones are read each time, so that the cache has a bound in bytes too.
_MOST_CACHED_BYTES = 256


class MissingAuthenticationToken(ApiError, PermissionError):
    """The request carries no signature."""

    code: ClassVar[str] = "MissingAuthenticationTokenException"
    namespace: ClassVar[str] = _CORAL


class IncompleteSignature(ApiError, PermissionError):
    """The signature lacks parameters."""

    code: ClassVar[str] = "IncompleteSignatureException"
    namespace: ClassVar[str] = _CORAL


class InvalidSignature(ApiError, PermissionError):
    """The signature contradicts itself."""

    code: ClassVar[str] = "InvalidSignatureException"
    namespace: ClassVar[str] = _CORAL


class Credential(NamedTuple):
    """The scope of a signature.

    Attributes:
        access_key_id: names the key that signed; an SDK has it from its settings.
        date: the day of the signature, YYYYMMDD.
        region: the region that the client thinks it talks to.
        service: the signing name, "dynamodb" for DynamoDB and its streams.
    """

    access_key_id: str
    date: str
    region: str
    service: str


def read_credential(headers: Mapping[bytes, bytes], query: bytes) -> Credential:
    """Return the credential of a request.

    Args:
        headers: the request's headers, names in lower case.
        query: the query string.

    Raises:
        MissingAuthenticationToken: the request is not signed.
        IncompleteSignature: parameters are missing.
        InvalidSignature: it is signed both by header and by query.
    """
    authorization = headers.get(b"authorization")
    if authorization is None or query:
        return _read_unusual(authorization, headers, query)
    # SDKs put Credential first; the rest differs in each request.
    head, _, rest = authorization.partition(b",")
    if (
        len(head) <= _MOST_CACHED_BYTES
        and b"SignedHeaders=" in rest
        and b"Signature=" in rest
        and (b"x-amz-date" in headers or b"date" in headers)
    ):
        credential = _cached_credential(head)
        if credential is not None:
            return credential
    return _read_header(authorization, headers)


@lru_cache(maxsize=4096)
def _cached_credential(head: bytes) -> Credential | None:
    algorithm, _, parameter = head.partition(b" ")
    name, _, scope = parameter.strip().partition(b"=")
    if not algorithm.startswith(b"AWS4-") or name != b"Credential":
        return None
    return _read_scope(scope.decode("utf-8", "replace"))


def _read_unusual(
    authorization: bytes | None, headers: Mapping[bytes, bytes], query: bytes
) -> Credential:
    parameters = {name: values[0] for name, values in parse_qs(query.decode("latin-1")).items()}
    if authorization is None and "X-Amz-Algorithm" in parameters:
        return _read_query(parameters)
    if authorization is None:
        raise MissingAuthenticationToken(
            "Request must contain either a valid (registered) AWS access key ID or X.509 "
            "certificate."
        )
    if "X-Amz-Algorithm" in parameters:
        raise InvalidSignature(
            "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP "
            "header."
        )
    return _read_header(authorization, headers)


def _read_header(authorization: bytes, headers: Mapping[bytes, bytes]) -> Credential:
    algorithm, _, rest = authorization.decode("utf-8", "replace").partition(" ")
    if not algorithm.startswith("AWS4-"):
        raise MissingAuthenticationToken("Request is missing Authentication Token")
    parameters: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if equals:
            parameters[name] = value
    missing = [
        f"Authorization header requires '{name}' parameter."
        for name in ("Credential", "Signature", "SignedHeaders")
        if not parameters.get(name)
    ]
    if b"x-amz-date" not in headers and b"date" not in headers:
        missing.append(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    if missing:
        digest = base64.b64encode(hashlib.sha256(authorization).digest()).decode()
        raise IncompleteSignature(
            f"{' '.join(missing)} (Hashed with SHA-256 and encoded with Base64) "
            f"Authorization={digest}"
        )
    return _complete(parameters["Credential"])


def _read_query(parameters: Mapping[str, str]) -> Credential:
    missing = [
        f"AWS query-string parameters must include '{name}'."
        for name in ("X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")
        if not parameters.get(name)
    ]
    if missing:
        raise IncompleteSignature(f"{' '.join(missing)} Re-examine the query-string parameters.")
    return _complete(parameters["X-Amz-Credential"])


def _complete(scope: str) -> Credential:
    credential = _read_scope(scope)
    if credential is None:
        raise IncompleteSignature(
            "Credential must have exactly 5 slash-delimited elements, e.g. "
            f"keyid/date/region/service/term, got '{scope}'"
        )
    return credential


def _read_scope(scope: str) -> Credential | None:
    parts = scope.split("/")
    if len(parts) != 5:  # key id, date, region, service, "aws4_request"
        return None
    return Credential(parts[0], parts[1], parts[2], parts[3])
