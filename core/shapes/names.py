"""Table names, given plainly or as an ARN."""

import re
from functools import lru_cache

from streamtable.core.errors import ValidationError

__all__ = ["table_name"]

# A view's tables that are not read by clients: its name, the generation, and what it is for.
_HIDDEN = r"[a-zA-Z0-9_.-]{3,200}~[0-9]+(?:~[a-z]+)?"
_NAME = re.compile(rf"[a-zA-Z0-9_.-]{{3,255}}|{_HIDDEN}")
_ARN = re.compile(rf"arn:[^:]*:dynamodb:[^:]*:[^:]*:table/([a-zA-Z0-9_.-]{{3,255}}|{_HIDDEN})")


@lru_cache(maxsize=4096)
def table_name(text: str) -> str:
    """Return the name of the table that a `TableName` parameter means.

    Every operation except CreateTable takes a table's ARN in place of its name. Region and
    account of the ARN are not looked at.

    Raises:
        ValidationError: it is neither a table's name nor a table's ARN.
    """
    if _NAME.fullmatch(text):
        return text
    arn = _ARN.fullmatch(text)
    if arn is None:
        raise ValidationError(
            "Invalid table/index name.  Table/index names must be between 3 and 255 characters "
            "long, and may contain only the characters a-z, A-Z, 0-9, '_', '-', and '.'"
        )
    return arn[1]
