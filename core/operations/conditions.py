"""Conditions, filters and updates of a request, in expressions or in legacy parameters."""

from collections.abc import Sequence
from typing import Any, Final

from streamtable.core.expressions.condition import Condition, bind_condition
from streamtable.core.expressions.legacy import (
    compile_attribute_updates,
    compile_attributes_to_get,
    compile_conditions,
    reject_mixed,
)
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.expressions.projection import Projection, bind_projection
from streamtable.core.expressions.update import Update, bind_update

__all__ = ["CONDITIONAL", "plan_condition", "plan_filter", "plan_update_expressions"]

CONDITIONAL: Final = frozenset(
    {
        "ConditionExpression",
        "Expected",
        "ConditionalOperator",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
    }
)
"""Parameters of a condition; a write that has none of them has no condition."""


_LEGACY_ORDER: Final = ("AttributeUpdates", "Expected", "ConditionalOperator")
_LEGACY: Final = frozenset(_LEGACY_ORDER)


def plan_condition(body: dict[str, Any]) -> Condition | None:
    """Return the condition of a PutItem or DeleteItem request.

    Raises:
        ValidationError: it is not valid.
    """
    reject_mixed(body, ("Expected", "ConditionalOperator"), ("ConditionExpression",))
    placeholders = Placeholders.of_request(body, "ConditionExpression")
    if "ConditionExpression" not in body:
        return compile_conditions("Expected", body.get("Expected"), body.get("ConditionalOperator"))
    condition = bind_condition(body["ConditionExpression"], "ConditionExpression", placeholders)
    placeholders.check_unused()
    return condition


def plan_update_expressions(body: dict[str, Any]) -> tuple[Update | None, Condition | None]:
    """Return the update and the condition of an UpdateItem request.

    Raises:
        ValidationError: one of them is not valid.
    """
    update: Update | None = None
    condition: Condition | None = None
    if not _LEGACY.isdisjoint(body):
        reject_mixed(body, _LEGACY_ORDER, ("UpdateExpression", "ConditionExpression"))
        # One with no actions says as much as none: let there be an item.
        if body.get("AttributeUpdates"):
            update = compile_attribute_updates(body["AttributeUpdates"])
        condition = compile_conditions(
            "Expected", body.get("Expected"), body.get("ConditionalOperator")
        )
    placeholders = Placeholders.of_request(body, "UpdateExpression", "ConditionExpression")
    if "UpdateExpression" in body:
        update = bind_update(body["UpdateExpression"], placeholders)
    if "ConditionExpression" in body:
        text = body["ConditionExpression"]
        condition = bind_condition(text, "ConditionExpression", placeholders)
    placeholders.check_unused()
    return update, condition


def plan_filter(
    body: dict[str, Any], expressions: Sequence[str], legacy: Sequence[str], filter_name: str
) -> tuple[Condition | None, Projection | None, Placeholders]:
    """Return the filter and the projection of a Query or Scan request, and the placeholders.

    Whether placeholders are left unused is the caller's to check: a Query has another expression.

    Args:
        body: the request.
        expressions: its expression parameters.
        legacy: the parameters that they have replaced.
        filter_name: the one that FilterExpression has replaced.

    Raises:
        ValidationError: one of them is not valid.
    """
    reject_mixed(body, legacy, expressions)
    placeholders = Placeholders.of_request(
        body,
        *(name for name in expressions if name != "ProjectionExpression"),
        projection="ProjectionExpression",
    )
    condition = projection = None
    if "ProjectionExpression" in body:
        projection = bind_projection(body["ProjectionExpression"], placeholders)
    elif "AttributesToGet" in body:
        projection = compile_attributes_to_get(body["AttributesToGet"])
    if "FilterExpression" in body:
        condition = bind_condition(body["FilterExpression"], "FilterExpression", placeholders)
    elif filter_name in body or "ConditionalOperator" in body:
        condition = compile_conditions(
            filter_name, body.get(filter_name), body.get("ConditionalOperator")
        )
    return condition, projection, placeholders
