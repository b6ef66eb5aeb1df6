"""Tokens of an expression.

All five kinds of expressions share them. A keyword is a name here: only the grammar knows where
`SET` is a keyword and where it is an attribute that is called so. A character that can't begin
anything is a token of its own, so that the grammar reports it where it meets it.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Kind", "Token", "tokenize"]

Kind = Literal["name", "alias", "value", "number", "symbol", "unknown", "end"]

_TOKEN: Final = re.compile(
    r"""[ \t\r\n\f]*(?:
        (?P<name>[A-Za-z][A-Za-z0-9_]*)
      | (?P<alias>\#[A-Za-z0-9_]+)
      | (?P<value>:[A-Za-z0-9_]+)
      | (?P<number>0|[1-9][0-9]*)
      | (?P<symbol><>|<=|>=|[=<>()\[\].,+-])
      | (?P<unknown>[^ \t\r\n\f])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes:
        kind: what it is.
        text: its characters, `<EOF>` for the end of the expression.
        start: where it begins in the expression.
        end: where what follows it begins.
    """

    kind: Kind
    text: str
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Split an expression into tokens; the last one is the end."""
    tokens = []
    for match in _TOKEN.finditer(text):
        kind: Kind = match.lastgroup  # type: ignore[assignment]  # every group is named after one
        start, end = match.span(kind)
        tokens.append(Token(kind, text[start:end], start, end))
    tokens.append(Token("end", "<EOF>", len(text), len(text)))
    return tokens
