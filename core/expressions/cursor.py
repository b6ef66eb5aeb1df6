"""What the grammars of all expressions share: the place in the tokens, paths, operands, errors.

DynamoDB reports the first syntax error of an expression before anything that it finds wrong with
its meaning. So a grammar raises what `unexpected` returns, but hands other errors to `defer`, and
`finish` raises the first of them once the whole text is known to be an expression.
"""

from dataclasses import dataclass

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.lexer import Token, tokenize
from streamtable.core.expressions.nodes import (
    ARITHMETIC_FUNCTIONS,
    CONDITION_FUNCTIONS,
    OPERAND_FUNCTIONS,
    Alias,
    Call,
    Element,
    Operand,
    Path,
    ValueRef,
)
from streamtable.core.expressions.reserved import is_reserved
from streamtable.core.limits import EXPRESSION_BYTES, EXPRESSION_OPERATORS, NESTING_LEVELS
from streamtable.core.token_cursor import TokenCursor

__all__ = ["Cursor"]

_FUNCTIONS = {**CONDITION_FUNCTIONS, **OPERAND_FUNCTIONS, **ARITHMETIC_FUNCTIONS}

# Java's largest int; what is above can't be the index of a list.
_LARGEST_INDEX = 2**31 - 1


@dataclass(slots=True)
class _OpenCall:
    """A call whose operands are being read, and the parentheses that were opened before it."""

    function: str
    opened: int
    operands: list[Operand]


class Cursor(TokenCursor[Token]):
    """A place in an expression.

    Attributes:
        parameter: the request's parameter that the expression stands in, for messages.
        aliases: the placeholders for names met so far.
        values: the placeholders for values met so far.
    """

    def __init__(
        self,
        text: str,
        parameter: str,
        keywords: frozenset[str],
        refused: dict[str, int],
        kind: str,
    ) -> None:
        """Start at the beginning of an expression.

        Args:
            text: the expression.
            parameter: the request's parameter it stands in.
            keywords: words that are no names in this grammar, in upper case.
            refused: functions that this kind of expression can't use.
            kind: what the message about those calls it: "an update expression".

        Raises:
            ValidationError: the expression is empty or too long.
        """
        self.parameter = parameter
        if not text:
            raise self.error("The expression can not be empty;")
        if len(text.encode()) > EXPRESSION_BYTES:
            raise self.error("Expression size has exceeded the maximum allowed size;")
        self.aliases: set[str] = set()
        self.values: set[str] = set()
        super().__init__(tokenize(text))
        self._text = text
        self._keywords = keywords
        self._refused = refused
        self._kind = kind
        self._operators = 0
        self._deferred: ValidationError | None = None

    def error(self, message: str) -> ValidationError:
        """Return an error about this expression."""
        return ValidationError(f"Invalid {self.parameter}: {message}")

    def unexpected(self) -> ValidationError:
        """Return a syntax error about the next token; it shows the tokens beside it."""
        token = self.token
        start, end = token.start, token.end
        if self._position:
            start = self._tokens[self._position - 1].start
        if token.kind == "end":
            end = self._tokens[self._position - 1].end if self._position else start
        elif self.following.kind != "end":
            end = self.following.end
        near = self._text[start:end]
        return self.error(f'Syntax error; token: "{token.text}", near: "{near}"')

    def defer(self, message: str) -> None:
        """Keep an error about the meaning for `finish`; only the first one counts."""
        if self._deferred is None:
            self._deferred = self.error(message)

    def finish(self) -> None:
        """Raise what is wrong with an expression whose syntax is right, if anything is.

        Raises:
            ValidationError: a deferred error, or too many operators.
        """
        if self._operators > EXPRESSION_OPERATORS:
            raise self.error(
                f"The expression contains too many operators; operator count: {self._operators}"
            )
        if self._deferred is not None:
            raise self._deferred

    def keyword(self) -> str | None:
        """Return the keyword that comes next, in upper case, or None."""
        if self.token.kind != "name":
            return None
        word = self.token.text.upper()
        return word if word in self._keywords else None

    def count_operator(self) -> None:
        """Count an operator or a function toward the limit."""
        self._operators += 1

    def path(self) -> Path:
        """Read a document path."""
        elements: list[Element] = [self._name()]
        while True:
            if self.accept("."):
                elements.append(self._name())
            elif self.accept("["):
                if self.token.kind != "number":
                    raise self.unexpected()
                elements.append(self._index())
                self.expect("]")
            else:
                break
        if len(elements) > NESTING_LEVELS:
            self.defer(
                f"The document path has too many nesting elements; nesting levels: {len(elements)}"
            )
        return Path(tuple(elements))

    def value(self) -> ValueRef:
        """Read a placeholder for a value."""
        if self.token.kind != "value":
            raise self.unexpected()
        name = self.advance().text
        self.values.add(name)
        return ValueRef(name)

    def operand(self, *, bare: bool = False) -> Operand:
        """Read a path, a value or a function call, perhaps in parentheses.

        Calls that stand in calls wait on a stack here, not on Python's: an expression has room
        for hundreds.

        Args:
            bare: whether parentheses around it are the caller's to read.
        """
        open_calls: list[_OpenCall] = []
        while True:
            opened = 0
            while (open_calls or not bare) and self.accept("("):
                opened += 1
            if self._at_call():
                self.count_operator()
                open_calls.append(_OpenCall(self.advance().text, opened, []))
                self.advance()
                continue
            node: Operand = self.value() if self.token.kind == "value" else self.path()
            while True:
                for _ in range(opened):
                    self.expect(")")
                if opened > 1:
                    self.refuse_parentheses()
                if not open_calls:
                    return node
                self.check_operand(node)
                call = open_calls[-1]
                call.operands.append(node)
                if self.accept(","):
                    break
                self.expect(")")
                open_calls.pop()
                self._check_call(call.function, len(call.operands))
                node, opened = Call(call.function, tuple(call.operands)), call.opened

    def argument(self) -> Operand:
        """Read an operand that is used as one: no function that is a condition."""
        node = self.operand()
        self.check_operand(node)
        return node

    def check_operand(self, node: Operand) -> None:
        """Refuse a function that is a condition where an operand is needed."""
        if isinstance(node, Call) and node.function in CONDITION_FUNCTIONS:
            self.refuse_use(node.function)

    def refuse_use(self, function: str) -> None:
        """Defer the error about a function that stands where it can't."""
        self.defer(
            "The function is not allowed to be used this way in an expression; "
            f"function: {function}"
        )

    def refuse_parentheses(self) -> None:
        """Defer the error about parentheses around parentheses."""
        self.defer("The expression has redundant parentheses;")

    def _at_call(self) -> bool:
        if self.token.kind != "name" or self.keyword():
            return False
        following = self.following
        return following.kind == "symbol" and following.text == "("

    def _check_call(self, function: str, count: int) -> None:
        expected = _FUNCTIONS.get(function)
        if expected is None:
            self.defer(f"Invalid function name; function: {function}")
        elif function in self._refused:
            self.defer(f"The function is not allowed in {self._kind}; function: {function}")
        elif count != expected:
            self.defer(
                "Incorrect number of operands for operator or function; "
                f"operator or function: {function}, number of operands: {count}"
            )

    def _name(self) -> str:
        token = self.token
        if token.kind == "alias":
            self.advance()
            self.aliases.add(token.text)
            return Alias(token.text)
        if token.kind != "name" or self.keyword():
            raise self.unexpected()
        self.advance()
        if is_reserved(token.text):
            self.defer(f"Attribute name is a reserved keyword; reserved keyword: {token.text}")
        return token.text

    def _index(self) -> int:
        text = self.advance().text
        # A number of thousands of digits is not converted at all.
        if len(text) <= len(str(_LARGEST_INDEX)) and int(text) <= _LARGEST_INDEX:
            return int(text)
        self.defer(f"List index is not within the allowable range; index: [{text}]")
        return _LARGEST_INDEX
