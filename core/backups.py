"""The catalog's document of an on-demand backup: what there is of it beside the items.

Documents are frozen: a change is a copy (`model_copy(update=...)`). Times are seconds since 1970.
"""

from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from streamtable.core.documents import TableDocument

__all__ = ["AVAILABLE", "CREATING", "FAILED", "REMOVING", "BackupDocument", "BackupStatus"]

BackupStatus: TypeAlias = Literal["CREATING", "AVAILABLE", "FAILED", "REMOVING"]
CREATING: Final = "CREATING"
AVAILABLE: Final = "AVAILABLE"
FAILED: Final = "FAILED"
REMOVING: Final = "REMOVING"


class BackupDocument(BaseModel):
    """A backup of a table.

    Attributes:
        id: the last part of its ARN; ids sort as the backups were asked for.
        name: what the user calls it, together with others maybe.
        status: FAILED: it could not be made, and has no items. REMOVING: nobody finds it any
            more, and what it has in object storage is on its way out.
        created: when it was asked for.
        table: the table as it was then.
        item_count: number of its items.
        size_bytes: their size by DynamoDB's rules.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    status: BackupStatus
    created: float
    table: TableDocument
    item_count: int
    size_bytes: int

    @property
    def arn(self) -> str:
        """Its Amazon resource name."""
        return f"{self.table.arn}/backup/{self.id}"
