"""The placeholders of a request: what `#name` and `:value` stand for in its expressions.

All expressions of a request share one `Placeholders`: each one that is bound takes what it needs,
and what none of them has taken is an error in the end.

Source: ExpressionAttributeNames and ExpressionAttributeValues in API_UpdateItem and its siblings.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.nodes import Alias, Element, Literal, Path, ValueRef
from streamtable.core.expressions.parser import NodeT, Parsed
from streamtable.core.limits import PLACEHOLDER_BYTES
from streamtable.core.values import AttributeNameTooLarge, Value, check_attribute_name, parse_value

__all__ = ["NO_PLACEHOLDERS", "Placeholders", "Scope"]

_NAMES: Final = "ExpressionAttributeNames"
_VALUES: Final = "ExpressionAttributeValues"
_NAME_KEY: Final = re.compile(r"#[A-Za-z0-9_]+")
_VALUE_KEY: Final = re.compile(r":[A-Za-z0-9_]+")


class Placeholders:
    """The names and values that the expressions of one request refer to.

    Attributes:
        names: attribute names by placeholder, `#` included.
        values: canonical values by placeholder, `:` included.
    """

    __slots__ = ("_used_names", "_used_values", "names", "values")

    def __init__(
        self, names: Mapping[str, str] | None = None, values: Mapping[str, Any] | None = None
    ) -> None:
        """Check the two maps of a request; None where the request has none.

        Raises:
            SerializationError: a value has the wrong JSON type.
            ValidationError: a map is empty, or a key or a value is not valid.
        """
        self.names: Mapping[str, str] = {}
        self.values: dict[str, Value] = {}
        self._used_names: set[str] = set()
        self._used_values: set[str] = set()
        if names is not None:
            if not names:
                raise ValidationError(f"{_NAMES} must not be empty")
            for key, name in names.items():
                _check_key(_NAMES, key, _NAME_KEY)
                if not name:
                    raise ValidationError(
                        f"{_NAMES} contains invalid value: Attribute name must not be empty "
                        f"for key {key}"
                    )
                check_attribute_name(name)
            self.names = names
        if values is not None:
            if not values:
                raise ValidationError(f"{_VALUES} must not be empty")
            for key, raw in values.items():
                _check_key(_VALUES, key, _VALUE_KEY)
                try:
                    self.values[key] = parse_value(raw)
                except AttributeNameTooLarge:
                    raise
                except ValidationError as error:
                    raise ValidationError(
                        f"{_VALUES} contains invalid value: {error.message} for key {key}"
                    ) from None

    @classmethod
    def of_request(
        cls, body: Mapping[str, Any], *expressions: str, projection: str | None = None
    ) -> "Placeholders":
        """Read the placeholders of a request.

        Args:
            body: the request.
            expressions: the parameters of the operation that can use names and values.
            projection: the parameter that can use names only, if the operation has one.

        Raises:
            SerializationError: a value has the wrong JSON type.
            ValidationError: there are placeholders but no expression to use them, or they are
                not valid.
        """
        names, values = body.get(_NAMES), body.get(_VALUES)
        if names is None and values is None:
            return cls()
        if all(body.get(parameter) is None for parameter in expressions):
            if names is not None and (projection is None or body.get(projection) is None):
                raise ValidationError(f"{_NAMES} can only be specified when using expressions")
            if values is not None:
                verb = "is" if len(expressions) == 1 else "are"
                raise ValidationError(
                    f"{_VALUES} can only be specified when using expressions: "
                    f"{' and '.join(expressions)} {verb} null"
                )
        return cls(names, values)

    def take(self, expression: Parsed[NodeT]) -> NodeT:
        """Return the node of an expression, and count what it uses as used."""
        self._used_names |= expression.names
        self._used_values |= expression.values
        return expression.node

    def check_unused(self) -> None:
        """Refuse placeholders that no expression has taken.

        Raises:
            ValidationError: there are some.
        """
        if len(self.names) > len(self._used_names):
            raise _unused(_NAMES, self.names, self._used_names)
        if len(self.values) > len(self._used_values):
            raise _unused(_VALUES, self.values, self._used_values)


class Scope:
    """What the nodes of one expression are bound in: its placeholders, and its name for messages.

    Attributes:
        parameter: the request's parameter that the expression stands in.
        prefix: what its errors begin with.
        attributes: the attributes of the item that were bound.
    """

    __slots__ = ("_names", "_values", "attributes", "parameter", "prefix")

    def __init__(self, parameter: str, placeholders: Placeholders) -> None:
        self.parameter = parameter
        self.prefix = f"Invalid {parameter}: "
        self.attributes: set[str] = set()
        self._names = placeholders.names
        self._values = placeholders.values

    def error(self, message: str) -> ValidationError:
        """Return an error about this expression."""
        return ValidationError(self.prefix + message)

    def path(self, path: Path) -> tuple[Element, ...]:
        """Resolve the names of a path.

        Raises:
            ValidationError: a placeholder is not defined.
        """
        elements = path.elements
        names = self._names
        for element in elements:
            if type(element) is Alias:
                try:
                    elements = tuple(
                        names[step] if type(step) is Alias else step for step in elements
                    )
                except KeyError as missing:
                    raise self.error(
                        "An expression attribute name used in the document path is not defined; "
                        f"attribute name: {missing.args[0]}"
                    ) from None
                break
        self.attributes.add(elements[0])  # type: ignore[arg-type]  # a path begins with a name
        return elements

    def value(self, node: ValueRef | Literal) -> Value:
        """Resolve a value.

        Raises:
            ValidationError: the placeholder is not defined.
        """
        if type(node) is Literal:
            return node.value
        assert type(node) is ValueRef
        value = self._values.get(node.name)
        if value is None:
            raise self.error(
                "An expression attribute value used in expression is not defined; "
                f"attribute value: {node.name}"
            )
        return value

    def mismatch(self, operator: str, kind: str) -> ValidationError:
        """Return the error about a value whose type an operator or a function does not take."""
        return self.error(
            "Incorrect operand type for operator or function; "
            f"operator or function: {operator}, operand type: {kind}"
        )


def _check_key(parameter: str, key: str, pattern: re.Pattern[str]) -> None:
    if len(key) > PLACEHOLDER_BYTES:
        raise ValidationError(
            f"{parameter} contains invalid key: The key is longer than {PLACEHOLDER_BYTES} bytes; "
            f'key: "{key}"'
        )
    if pattern.fullmatch(key) is None:
        raise ValidationError(f'{parameter} contains invalid key: Syntax error; key: "{key}"')


def _unused(parameter: str, given: Mapping[str, Any], used: set[str]) -> ValidationError:
    keys = ", ".join(key for key in given if key not in used)
    return ValidationError(f"Value provided in {parameter} unused in expressions: keys: {{{keys}}}")


NO_PLACEHOLDERS: Final = Placeholders()
"""For nodes that have none: legacy parameters and PartiQL."""
