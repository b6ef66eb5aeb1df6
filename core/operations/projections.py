"""Which attributes GetItem and BatchGetItem return: ProjectionExpression or AttributesToGet."""

from typing import Any

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.legacy import compile_attributes_to_get, reject_mixed
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.expressions.projection import Projection, bind_projection

__all__ = ["plan_projection"]


def plan_projection(body: dict[str, Any]) -> Projection | None:
    """Return the projection of a GetItem request, or of one table of a BatchGetItem.

    Raises:
        ValidationError: it is not valid.
    """
    reject_mixed(body, ("AttributesToGet",), ("ProjectionExpression",))
    names = body.get("ExpressionAttributeNames")
    text = body.get("ProjectionExpression")
    if text is not None:
        placeholders = Placeholders(names)
        projection = bind_projection(text, placeholders)
        placeholders.check_unused()
        return projection
    if names is not None:
        raise ValidationError(
            "ExpressionAttributeNames can only be specified when using expressions"
        )
    if "AttributesToGet" in body:
        return compile_attributes_to_get(body["AttributesToGet"])
    return None
