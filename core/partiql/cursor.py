"""A place in a statement's tokens: names, paths, values, and what is wrong there."""

from collections.abc import Callable, Mapping
from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.nodes import (
    Arithmetic,
    Call,
    Element,
    Literal,
    Operand,
    Path,
    ValueRef,
)
from streamtable.core.limits import EXPRESSION_OPERATORS, NESTING_LEVELS
from streamtable.core.partiql.lexer import Token, tokenize
from streamtable.core.partiql.templates import (
    Constant,
    ListOf,
    MapOf,
    Parameter,
    SetOf,
    Template,
    build,
    is_constant,
)
from streamtable.core.token_cursor import TokenCursor
from streamtable.core.values import parse_value

__all__ = ["Cursor"]

_MALFORMED: Final = "Statement wasn't well formed, can't be processed: "

_MAX_DEPTH: Final = 64
"""Parentheses and calls inside each other; it bounds the recursion of the grammars."""

_LARGEST_INDEX: Final = 2**31 - 1

_WORDS: Final = {"TRUE": {"BOOL": True}, "FALSE": {"BOOL": False}, "NULL": {"NULL": True}}


class Cursor(TokenCursor[Token]):
    """A place in a statement.

    Attributes:
        templates: the values with parameters that were read.
        parameters: how many question marks were read.
    """

    def __init__(self, text: str) -> None:
        super().__init__(tokenize(text))
        self._depth = 0
        self._operators = 0
        self.templates: list[Template] = []
        self.parameters = 0

    def malformed(self, reason: str) -> ValidationError:
        """Return an error about the statement's grammar."""
        return ValidationError(_MALFORMED + reason)

    def unexpected(self) -> ValidationError:
        """Return the error about a token that can't come next."""
        what = {"keyword": "keyword", "end": "end of statement"}.get(self.token.kind, "token")
        return self.malformed(f"Unexpected {what}")

    def accept_word(self, *words: str) -> str | None:
        """Go past one of these words if it comes next, in whatever case, and return it."""
        if self.token.kind in ("keyword", "name"):
            word = self.token.text.upper()
            if word in words:
                self.advance()
                return word
        return None

    def expect_word(self, word: str) -> None:
        """Go past this word.

        Raises:
            ValidationError: something else comes next.
        """
        if self.accept_word(word) is None:
            raise self.unexpected()

    def enter(self) -> None:
        """Count one level of nesting, until `leave`.

        Raises:
            ValidationError: there are too many.
        """
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.malformed("Nesting is too deep")

    def leave(self) -> None:
        """Count one level of nesting less."""
        self._depth -= 1

    def count_operator(self) -> None:
        """Count an operator or a function.

        Raises:
            ValidationError: there are too many.
        """
        self._operators += 1
        if self._operators > EXPRESSION_OPERATORS:
            raise ValidationError(
                f"The expression contains too many operators; operator count: {self._operators}"
            )

    def at_call(self) -> bool:
        """Say whether a name and an opening parenthesis come next."""
        following = self.following
        return self.token.kind == "name" and following.kind == "symbol" and following.text == "("

    def call(
        self, functions: Mapping[str, int], read_operand: Callable[["Cursor"], Operand]
    ) -> Call:
        """Read the call of a function.

        Args:
            functions: how many operands each function has that may stand here.
            read_operand: reads one of them.

        Raises:
            ValidationError: it is no such function, or has another number of operands.
        """
        function = self.advance().text.lower()
        if function not in functions:
            raise ValidationError(f"Invalid function name; function: {function}")
        self.count_operator()
        self.enter()
        self.expect("(")
        operands = [read_operand(self)]
        while self.accept(","):
            operands.append(read_operand(self))
        self.expect(")")
        self.leave()
        if len(operands) != functions[function]:
            raise ValidationError(
                "Incorrect number of operands for operator or function; "
                f"operator or function: {function}, number of operands: {len(operands)}"
            )
        return Call(function, tuple(operands))

    def sum(
        self,
        read_operand: Callable[["Cursor"], Operand],
        check_term: Callable[[Operand], None],
    ) -> Operand:
        """Read an operand, or several with `+` and `-` between them.

        Args:
            read_operand: reads one of them.
            check_term: refuses what can't be a part of a sum; not called for one alone.

        Raises:
            ValidationError: a term can't be one, or there are too many.
        """
        operand = read_operand(self)
        terms = 1
        while self.at("+") or self.at("-"):
            operator = self.advance().text
            self.count_operator()
            terms += 1
            if terms > NESTING_LEVELS:
                raise ValidationError(
                    f"The expression contains too many operators; operator count: {terms}"
                )
            check_term(operand)
            right = read_operand(self)
            check_term(right)
            operand = Arithmetic(operator, operand, right)
        return operand

    def at_name(self) -> bool:
        """Say whether the next token is a name, in quotes or not."""
        return self.token.kind in ("name", "quoted")

    def name(self) -> str:
        """Read a name."""
        if not self.at_name() or not self.token.text:
            raise self.unexpected()
        return self.advance().text

    def path(self) -> Path:
        """Read a document path: `a.b[0]."c d"`; `a['b']` is the same as `a.b`."""
        elements: list[Element] = [self.name()]
        while True:
            if self.accept("."):
                elements.append(self.name())
            elif self.accept("["):
                elements.append(self._step())
                self.expect("]")
            else:
                break
        if len(elements) > NESTING_LEVELS:
            raise ValidationError(
                f"The document path has too many nesting elements; nesting levels: {len(elements)}"
            )
        return Path(tuple(elements))

    def _step(self) -> Element:
        if self.token.kind == "string" and self.token.text:
            return self.advance().text
        if self.token.kind != "number" or not self.token.text.isdecimal():
            raise self.unexpected()
        text = self.advance().text
        # A number of thousands of digits is not converted at all.
        if len(text) > len(str(_LARGEST_INDEX)) or int(text) > _LARGEST_INDEX:
            raise ValidationError(f"List index is not within the allowable range; index: [{text}]")
        return int(text)

    def at_value(self) -> bool:
        """Say whether a value comes next."""
        token = self.token
        if token.kind in ("string", "number"):
            return True
        if token.kind == "keyword":
            return token.text in _WORDS
        return token.kind == "symbol" and token.text in ("?", "[", "{", "<<", "-", "+")

    def value(self) -> Literal | ValueRef:
        """Read a value as an operand of an expression."""
        template = self.template()
        if is_constant(template):
            return Literal(parse_value(build(template, ())))
        self.templates.append(template)
        return ValueRef(f"?{len(self.templates) - 1}")

    def template(self, level: int = 1) -> Template:
        """Read a value; `level` is how deep it is in other values."""
        if level > NESTING_LEVELS:
            raise ValidationError(
                "Nesting Levels have exceeded supported limits: Attributes in the item have "
                "nested levels beyond supported limit"
            )
        token = self.token
        if token.kind == "string":
            return Constant({"S": self.advance().text})
        if token.kind == "number":
            return Constant({"N": self.advance().text})
        if token.kind == "keyword" and token.text in _WORDS:
            return Constant(_WORDS[self.advance().text])
        if token.kind != "symbol":
            raise self.unexpected()
        if self.accept("?"):
            self.parameters += 1
            return Parameter(self.parameters - 1)
        if self.at("-") or self.at("+"):
            sign = self.advance().text
            if self.token.kind != "number":
                raise self.unexpected()
            return Constant({"N": sign + self.advance().text})
        if self.accept("["):
            return ListOf(self._elements("]", level))
        if self.accept("<<"):
            return SetOf(self._elements(">>", level))
        if self.at("{"):
            return self.map_template(level)
        raise self.unexpected()

    def map_template(self, level: int = 1) -> MapOf:
        """Read a map."""
        self.expect("{")
        members: dict[str, Template] = {}
        if not self.accept("}"):
            while True:
                if self.token.kind != "string":
                    raise self.unexpected()
                name = self.advance().text
                self.expect(":")
                members[name] = self.template(level + 1)
                if not self.accept(","):
                    break
            self.expect("}")
        return MapOf(tuple(members.items()))

    def _elements(self, end: str, level: int) -> tuple[Template, ...]:
        elements: list[Template] = []
        if not self.accept(end):
            elements.append(self.template(level + 1))
            while self.accept(","):
                elements.append(self.template(level + 1))
            self.expect(end)
        return tuple(elements)
