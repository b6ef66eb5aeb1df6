"""What a page answers where that is not JSON."""

from dataclasses import dataclass

__all__ = ["Content"]


@dataclass(frozen=True, slots=True)
class Content:
    """An answer as it is sent.

    Attributes:
        body: the answer's bytes.
        content_type: what they are.
        status: HTTP's status.
    """

    body: bytes
    content_type: bytes = b"text/plain; charset=utf-8"
    status: int = 200
