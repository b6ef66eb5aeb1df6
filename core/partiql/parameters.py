"""The parameters of a request, filled into the statement that it has."""

from typing import Any, Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.partiql.parser import parse_statement
from streamtable.core.partiql.statements import Parsed, Statement
from streamtable.core.partiql.templates import MapOf, Parameter, build
from streamtable.core.values import Item, Value, check_item_size, parse_item, parse_value

__all__ = ["Filled", "fill"]

_MISMATCH: Final = "Number of parameters in request and statement don't match."


class Filled:
    """A statement with the parameters of one request.

    Attributes:
        statement: the statement.
        placeholders: its values that have parameters, for binding its nodes.
        reads: whether it is a SELECT.
    """

    __slots__ = ("_parameters", "placeholders", "reads", "statement")

    def __init__(self, parsed: Parsed, raw: list[Any]) -> None:
        if len(raw) != parsed.parameters:
            raise ValidationError(_MISMATCH)
        self._parameters: list[Value] = [parse_value(value) for value in raw]
        self.statement: Statement = parsed.statement
        self.reads = parsed.reads
        self.placeholders = Placeholders()
        for position, template in enumerate(parsed.templates):
            value = parse_value(build(template, self._parameters))
            self.placeholders.values[f"?{position}"] = value

    def item(self, template: MapOf | Parameter) -> tuple[Item, int]:
        """Return the item of an INSERT and its size.

        Raises:
            ValidationError: it is no item that DynamoDB takes.
        """
        value = build(template, self._parameters)
        if "M" not in value:
            raise ValidationError("The parameter of an INSERT's VALUE must be a map")
        item, size = parse_item(value["M"])
        check_item_size(size)
        return item, size


def fill(request: dict[str, Any]) -> Filled:
    """Parse the statement of a request, or of a part of a batch, and fill in its parameters.

    Raises:
        SerializationError: a parameter has the wrong JSON type.
        ValidationError: it is no statement, or its parameters are not valid.
    """
    return Filled(parse_statement(request["Statement"]), request.get("Parameters") or [])
