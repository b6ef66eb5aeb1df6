"""Format versions, and the one rule for them: nobody reads what is newer than itself.

What is kept has a number for the form it is in: images, checkpoints, stores, the records of the
region's topics. What does not say a number is of the first format. A version of streamtable reads
all formats up to its own; of a newer one it can't know what it would miss, so it stops instead.
"""

from streamtable.core.errors import StreamtableError

__all__ = ["FIRST", "NewerFormat", "refuse_newer"]

FIRST = 1
"""The format of what does not say one."""


class NewerFormat(StreamtableError, ValueError):
    """Something is of a format that this version of streamtable does not know."""


def refuse_newer(what: str, found: int, known: int) -> None:
    """Let pass what this version can read.

    Args:
        what: the thing, with its place, for people.
        found: its format.
        known: the newest format of such things that this version knows.

    Raises:
        NewerFormat: its format is newer.
    """
    if found > known:
        raise NewerFormat(
            f"{what} has format {found}, this version of streamtable knows formats up to {known}. "
            "A newer version wrote it: run that version here, or a later one."
        )
