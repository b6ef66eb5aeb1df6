"""UpdateTimeToLive and DescribeTimeToLive: which attribute says when an item expires."""

from typing import Any

from streamtable.core.documents import TableDocument, TimeToLive
from streamtable.core.errors import ValidationError

__all__ = ["describe_time_to_live", "plan_time_to_live"]


def describe_time_to_live(document: TableDocument) -> dict[str, Any]:
    """Return the TimeToLiveDescription."""
    setting = document.time_to_live
    if setting is None or not setting.enabled:
        return {"TimeToLiveStatus": "DISABLED"}
    return {"TimeToLiveStatus": "ENABLED", "AttributeName": setting.attribute}


def plan_time_to_live(body: dict[str, Any], document: TableDocument, now: float) -> TableDocument:
    """Check an UpdateTimeToLive request and return the table's next document.

    DynamoDB takes an hour until a change holds and refuses another one meanwhile; here it holds
    at once. Source: API_UpdateTimeToLive.

    Raises:
        ValidationError: it is so already, or another attribute is in use.
    """
    raw = body["TimeToLiveSpecification"]
    name, enabled = raw["AttributeName"], raw["Enabled"]
    current = document.time_to_live
    active = current is not None and current.enabled
    if not active and not enabled:
        raise ValidationError("TimeToLive is already disabled")
    if active and current is not None:
        if current.attribute != name:
            raise ValidationError(
                "TimeToLive is active on a different AttributeName: current AttributeName is "
                f"{current.attribute}"
            )
        if enabled:
            raise ValidationError("TimeToLive is already enabled")
    setting = TimeToLive(attribute=name, enabled=enabled, changed=now)
    return document.model_copy(update={"time_to_live": setting})
