"""TagResource, UntagResource and ListTagsOfResource."""

from collections.abc import Callable
from typing import Any

from streamtable.core.documents import TableDocument
from streamtable.core.errors import AccessDenied, ResourceNotFound, ValidationError
from streamtable.core.limits import TAGS_PAGE
from streamtable.core.operations.table_settings import parse_tags
from streamtable.core.tables import Table

__all__ = ["check_table", "list_tags", "tag", "untag"]


def check_table(
    arn: str, find: Callable[[str], Table | None], *, operation: str, ours: str
) -> Table:
    """Return the table of a ResourceArn.

    Args:
        arn: the ResourceArn.
        find: returns the table of an ARN, None if there is none.
        operation: the operation's name.
        ours: what the ARNs of all tables of this region and account begin with.

    Raises:
        ValidationError: it is no table's ARN.
        AccessDenied: it is a table of another region or account.
        ResourceNotFound: there is no such table.
    """
    if not arn.startswith("arn:") or ":table/" not in arn:
        raise ValidationError(f"Invalid TableArn: Invalid ResourceArn provided as input {arn}")
    if not arn.startswith(ours):
        account = ours.split(":")[4]
        raise AccessDenied(
            f"User: arn:aws:iam::{account}:root is not authorized to perform: "
            f"dynamodb:{operation} on resource: {arn} because no resource-based policy allows the "
            f"dynamodb:{operation} action"
        )
    table = find(arn)
    if table is None or table.arn != arn:
        # The misspelling is the service's own.
        raise ResourceNotFound(f"Requested resource not found: ResourcArn: {arn} not found")
    return table


def tag(document: TableDocument, raw: list[dict[str, str]]) -> TableDocument:
    """Return the document with tags added or replaced.

    Raises:
        ValidationError: there is none, one is not allowed, or there would be too many.
    """
    if not raw:
        raise ValidationError("Atleast one Tag needs to be provided as Input.")
    merged = {**document.tags, **parse_tags(raw)}
    parse_tags([{"Key": key, "Value": value} for key, value in merged.items()])
    return document.model_copy(update={"tags": merged})


def untag(document: TableDocument, keys: list[str]) -> TableDocument:
    """Return the document without these tags; one that is not there is no error.

    Raises:
        ValidationError: no key is given.
    """
    if not keys:
        raise ValidationError("Atleast one Tag Key needs to be provided as Input.")
    left = {key: value for key, value in document.tags.items() if key not in keys}
    return document.model_copy(update={"tags": left})


def list_tags(document: TableDocument, token: str | None) -> dict[str, Any]:
    """Return one page of the table's tags, after the tag that the token names."""
    found = sorted(key for key in document.tags if token is None or key > token)
    page = found[:TAGS_PAGE]
    answer: dict[str, Any] = {
        "Tags": [{"Key": key, "Value": document.tags[key]} for key in page],
    }
    if len(found) > len(page):
        answer["NextToken"] = page[-1]
    return answer
