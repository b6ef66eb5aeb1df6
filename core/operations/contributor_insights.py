"""Settings of contributor insights; the rules themselves are CloudWatch's and not here."""

from typing import Any, Final

from streamtable.core.documents import ContributorInsights, TableDocument
from streamtable.core.errors import ResourceNotFound, ValidationError

__all__ = ["describe_insights", "list_insights", "plan_insights"]

_DEFAULT_MODE: Final = "ACCESSED_AND_THROTTLED_KEYS"
_PAGE: Final = 100


def describe_insights(document: TableDocument, index: str | None) -> dict[str, Any]:
    """Return the answer to DescribeContributorInsights.

    Raises:
        ResourceNotFound: the table has no such index.
    """
    _check_index(document, index)
    setting = _setting(document, index)
    answer = _names(document, index)
    answer["ContributorInsightsRuleList"] = []
    answer["ContributorInsightsStatus"] = _status(setting)
    if setting is not None:
        answer["LastUpdateDateTime"] = round(setting.changed, 3)
        answer["ContributorInsightsMode"] = setting.mode
    return answer


def plan_insights(
    body: dict[str, Any], document: TableDocument, now: float
) -> tuple[TableDocument, dict[str, Any]]:
    """Return the table's next document and the answer to UpdateContributorInsights.

    Raises:
        ResourceNotFound: the table has no such index.
    """
    index = body.get("IndexName")
    _check_index(document, index)
    enabled = body["ContributorInsightsAction"] == "ENABLE"
    setting = ContributorInsights(
        index=index,
        enabled=enabled,
        mode=body.get("ContributorInsightsMode", _DEFAULT_MODE),
        changed=now,
    )
    others = tuple(other for other in document.insights if other.index != index)
    answer = _names(document, index)
    # What comes after these at once is ENABLED and DISABLED.
    answer["ContributorInsightsStatus"] = "ENABLING" if enabled else "DISABLING"
    answer["ContributorInsightsMode"] = setting.mode
    return document.model_copy(update={"insights": (*others, setting)}), answer


def list_insights(body: dict[str, Any], documents: list[TableDocument]) -> dict[str, Any]:
    """Return one page of all settings, of one table or of all; the answer to the List operation.

    Raises:
        ValidationError: the NextToken is not one of ours.
    """
    found = []
    for document in documents:
        for setting in document.insights:
            summary = _names(document, setting.index)
            summary["ContributorInsightsStatus"] = _status(setting)
            summary["ContributorInsightsMode"] = setting.mode
            found.append(summary)
    token = body.get("NextToken", "0")
    if not token.isdecimal():
        raise ValidationError(f"Invalid NextToken: {token}")
    start = int(token)
    size = body.get("MaxResults", _PAGE)
    answer: dict[str, Any] = {"ContributorInsightsSummaries": found[start : start + size]}
    if len(found) > start + size:
        answer["NextToken"] = str(start + size)
    return answer


def _check_index(document: TableDocument, index: str | None) -> None:
    if index is not None and document.index(index) is None:
        raise ResourceNotFound(
            f"Requested resource not found: Index: {index} of Table: {document.name} not found"
        )


def _setting(document: TableDocument, index: str | None) -> ContributorInsights | None:
    return next((setting for setting in document.insights if setting.index == index), None)


def _names(document: TableDocument, index: str | None) -> dict[str, Any]:
    names: dict[str, Any] = {"TableName": document.name}
    if index is not None:
        names["IndexName"] = index
    return names


def _status(setting: ContributorInsights | None) -> str:
    return "ENABLED" if setting is not None and setting.enabled else "DISABLED"
