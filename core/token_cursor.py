"""A place in a row of tokens: what the grammars of expressions and of PartiQL share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from streamtable.core.errors import ValidationError

__all__ = ["TokenCursor"]


class _Token(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...


TokenT = TypeVar("TokenT", bound=_Token)


class TokenCursor(ABC, Generic[TokenT]):
    """A place in a row of tokens, the last of which is the end.

    Args:
        tokens: the tokens.

    Attributes:
        token: the token that comes next.
    """

    def __init__(self, tokens: Sequence[TokenT]) -> None:
        self._tokens = tokens
        self._position = 0
        self._last = len(tokens) - 1
        self.token = tokens[0]

    @abstractmethod
    def unexpected(self) -> ValidationError:
        """Return the error about a token that can't come next."""

    @property
    def following(self) -> TokenT:
        """The token behind the one that comes next; the end is behind the end, too."""
        return self._tokens[min(self._position + 1, self._last)]

    def advance(self) -> TokenT:
        """Return the next token and go past it."""
        token = self.token
        self._position = min(self._position + 1, self._last)
        self.token = self._tokens[self._position]
        return token

    def at(self, symbol: str) -> bool:
        """Say whether the next token is this symbol."""
        return self.token.text == symbol and self.token.kind == "symbol"

    def accept(self, symbol: str) -> bool:
        """Go past this symbol if it comes next, and say whether it did."""
        if self.at(symbol):
            self.advance()
            return True
        return False

    def expect(self, symbol: str) -> None:
        """Go past this symbol.

        Raises:
            ValidationError: something else comes next.
        """
        if not self.accept(symbol):
            raise self.unexpected()
