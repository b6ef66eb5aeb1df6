"""Settings of a table besides keys, capacity and indexes, as CreateTable and UpdateTable take them.

Streams, encryption, tags.
"""

from datetime import UTC, datetime
from typing import Any

from streamtable.core.documents import StreamDocument
from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.limits import TAGS

__all__ = ["check_named", "new_stream", "parse_encryption", "parse_tags"]


def check_named(body: dict[str, Any]) -> None:
    """Check that an operation on a table itself says on which one.

    Raises:
        ValidationError: it does not.
    """
    if "TableName" not in body:
        raise ValidationError(
            "The parameter 'TableName' is required but was not present in the request"
        )


def _stream_label(now: float) -> str:
    """Return the label of a stream switched on at `now`, for example 2026-01-31T12:00:00.123."""
    time = datetime.fromtimestamp(now, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}"


def new_stream(view_type: str, now: float, earlier: tuple[StreamDocument, ...]) -> StreamDocument:
    """Return a stream that is on from `now`; its label differs from all `earlier` ones."""
    taken = {stream.label for stream in earlier}
    moment = now
    while _stream_label(moment) in taken:
        moment += 0.001
    return StreamDocument.model_validate(
        {"label": _stream_label(moment), "view_type": view_type, "enabled": now}
    )


def parse_encryption(raw: dict[str, Any] | None) -> tuple[bool, str | None]:
    """Read an SSESpecification: whether a KMS key is asked for, and which.

    Raises:
        ValidationError: the parts contradict each other.
    """
    if raw is None:
        return False, None
    enabled = raw.get("Enabled", "SSEType" in raw)
    key = raw.get("KMSMasterKeyId")
    if raw.get("SSEType") == "AES256":
        raise ValidationError(f"{INVALID}SSEType AES256 is not supported, use KMS")
    if not enabled and ("SSEType" in raw or key is not None):
        raise ValidationError(
            f"{INVALID}SSEType and KMSMasterKeyId can only be specified when Enabled is true"
        )
    return enabled, key


def parse_tags(raw: list[dict[str, str]]) -> dict[str, str]:
    """Read a list of tags.

    Raises:
        ValidationError: a key comes twice, there are too many, or a key is AWS's own.
    """
    tags = {tag["Key"]: tag["Value"] for tag in raw}
    if len(tags) != len(raw):
        raise ValidationError(f"{INVALID}Duplicate tag keys are not allowed")
    if len(tags) > TAGS:
        raise ValidationError(f"{INVALID}Too many tags: the limit is {TAGS} per resource")
    for key in tags:
        if key.lower().startswith("aws:"):
            raise ValidationError(f"{INVALID}Tag keys that start with aws: are reserved: {key}")
    return tags
