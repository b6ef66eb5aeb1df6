"""Tokens of a PartiQL statement.

Source: PartiQL specification, "Lexical structure"; "PartiQL data types for DynamoDB", developer
guide.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Kind", "Token", "tokenize"]

Kind = Literal["keyword", "name", "quoted", "string", "number", "symbol", "unknown", "end"]

_KEYWORDS: Final = frozenset(
    {
        *("ALL", "AND", "AS", "ASC", "BETWEEN", "BY", "CASE", "CREATE", "DELETE", "DESC"),
        *("DISTINCT", "DROP", "EXCEPT", "EXISTS", "FALSE", "FROM", "GROUP", "HAVING", "IN"),
        *("INNER", "INSERT", "INTERSECT", "INTO", "IS", "JOIN", "LEFT", "LIKE", "LIMIT"),
        *("MISSING", "NOT", "NULL", "OFFSET", "OR", "ORDER", "REMOVE", "RETURNING", "RIGHT"),
        *("SELECT", "SET", "TRUE", "UNION", "UPDATE", "VALUE", "VALUES", "WHERE"),
    }
)
"""Words that are no names unless they stand in double quotes."""

_TOKEN: Final = re.compile(
    r"""(?:\s | --[^\n]* | /\*.*?\*/)*+(?:
        (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<string>'(?:[^']|'')*')
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<symbol><<|>>|<>|<=|>=|!=|\|\||[=<>()\[\]{},.:;?*+/%-])
      | (?P<unknown>/\*.*|\S)
    )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes:
        kind: what it is.
        text: a keyword in upper case, the content of what was in quotes, else its characters.
    """

    kind: Kind
    text: str


def tokenize(text: str) -> list[Token]:
    """Split a statement into tokens; the last one is the end."""
    tokens = []
    for match in _TOKEN.finditer(text):
        kind: Kind = match.lastgroup  # type: ignore[assignment]  # every group is named after one
        found = match[kind]
        if kind == "name" and found.upper() in _KEYWORDS:
            kind, found = "keyword", found.upper()
        elif kind == "quoted":
            found = found[1:-1].replace('""', '"')
        elif kind == "string":
            found = found[1:-1].replace("''", "'")
        tokens.append(Token(kind, found))
    tokens.append(Token("end", ""))
    return tokens
