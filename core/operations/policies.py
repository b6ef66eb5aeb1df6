"""GetResourcePolicy, PutResourcePolicy and DeleteResourcePolicy.

A policy is kept as it was given, after a check that it is JSON; a table has one, and its stream
another one.
"""

from collections.abc import Callable
from typing import Any, Final

import orjson

from streamtable.core.documents import Policy, TableDocument
from streamtable.core.errors import PolicyNotFound, ResourceNotFound, ValidationError
from streamtable.core.limits import POLICY_BYTES
from streamtable.core.tables import Table

__all__ = ["check_table", "delete_policy", "get_policy", "parse_policy", "put_policy"]

# An ExpectedRevisionId that says: only if there is no policy yet.
_NO_POLICY: Final = "NO_POLICY"


def check_table(arn: str, find: Callable[[str], Table | None]) -> Table:
    """Return the table of the ARN of a table or of its newest stream.

    Raises:
        ValidationError: it is no such ARN.
        ResourceNotFound: there is no such table.
    """
    if not arn.startswith("arn:") or ":table/" not in arn:
        raise ValidationError(f"Invalid ResourceArn provided as input: {arn}")
    table = find(arn)
    if table is not None:
        document = table.document
        streams = {document.stream_arn(stream) for stream in document.streams}
        if arn == table.arn or arn in streams:
            return table
    raise ResourceNotFound(f"Requested resource not found: ResourceArn: {arn} not found")


def get_policy(document: TableDocument, arn: str) -> dict[str, Any]:
    """Return the answer to GetResourcePolicy.

    Raises:
        PolicyNotFound: the resource has none.
    """
    policy = _policy(document, arn)
    if policy is None:
        raise _not_found(arn)
    return {"Policy": policy.text, "RevisionId": policy.revision}


def put_policy(
    document: TableDocument, body: dict[str, Any], revision: str
) -> tuple[TableDocument, str]:
    """Return the document with the policy, and the policy's revision.

    The document is the very same object where the policy is the one that it has already.

    Raises:
        ValidationError: the policy is not JSON, or too long.
        PolicyNotFound: ExpectedRevisionId is not the revision there is.
    """
    arn, text = body["ResourceArn"], body["Policy"]
    parsed = parse_policy(text)
    current = _policy(document, arn)
    expected = body.get("ExpectedRevisionId")
    actual = _NO_POLICY if current is None else current.revision
    if expected is not None and expected != actual:
        raise PolicyNotFound(
            f"Resource-based policy of {arn} does not have the revision {expected}"
        )
    if current is not None and orjson.loads(current.text) == parsed:
        return document, current.revision
    field = _field(document, arn)
    changed = document.model_copy(update={field: Policy(text=text, revision=revision)})
    return changed, revision


def parse_policy(text: str) -> dict[str, Any]:
    """Return what a policy says.

    Raises:
        ValidationError: it is not JSON, or too long.
    """
    if len(text.encode()) > POLICY_BYTES:
        raise ValidationError("Resource-based policy size exceeds the limit of 20 KB")
    try:
        parsed = orjson.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict) or "Statement" not in parsed:
        raise ValidationError("Policy document is not valid JSON or has no Statement")
    return parsed


def delete_policy(
    document: TableDocument, body: dict[str, Any]
) -> tuple[TableDocument, str | None]:
    """Return the document without the policy, and the revision that it had, None if none.

    Raises:
        PolicyNotFound: ExpectedRevisionId is not the revision there is.
    """
    arn = body["ResourceArn"]
    current = _policy(document, arn)
    expected = body.get("ExpectedRevisionId")
    if expected is not None and (current is None or current.revision != expected):
        raise _not_found(arn)
    if current is None:
        return document, None
    return document.model_copy(update={_field(document, arn): None}), current.revision


def _field(document: TableDocument, arn: str) -> str:
    return "policy" if arn == document.arn else "stream_policy"


def _policy(document: TableDocument, arn: str) -> Policy | None:
    return document.policy if arn == document.arn else document.stream_policy


def _not_found(arn: str) -> PolicyNotFound:
    return PolicyNotFound(f"Resource-based policy not found for the provided ResourceArn: {arn}")
