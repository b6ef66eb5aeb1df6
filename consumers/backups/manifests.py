"""What a backup is in object storage: a manifest that names its parts by their content.

    {region}/backups/{id}/parts/{sha256}.json.gz
    {region}/backups/{id}/manifest.json

Parts are written first, the manifest last: a backup is there whole or not at all. Whoever writes a
shard's parts twice, or at the same time as somebody else, changes nothing that is there.
"""

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from streamtable.consumers.checkpoints.objects import NoObject, Objects
from streamtable.core.backups import BackupDocument
from streamtable.core.errors import StreamtableError
from streamtable.core.formats import FIRST, NewerFormat, refuse_newer

__all__ = ["FORMAT", "BackupNames", "DamagedBackup", "Manifest", "Part", "ShardParts"]

FORMAT: Final = 1
"""Version of manifest and parts; a newer one is not read."""


class DamagedBackup(StreamtableError, ValueError):
    """A backup's object is missing, is not what its manifest says, or can't be read."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Entry):
    """Some items: gzipped lines, each of them `{"Item": {...}}`.

    Attributes:
        sha256: of its content, hexadecimal; its name.
        size_bytes: its length.
        items: how many.
    """

    sha256: str
    size_bytes: int
    items: int


class ShardParts(_Entry):
    """The items of one shard, in parts.

    Attributes:
        shard: the shard's number.
        offset: the offset in its log that they are as of.
        item_bytes: their size by DynamoDB's rules.
        parts: in the order of the items' row keys.
    """

    shard: int
    offset: int
    item_bytes: int
    parts: tuple[Part, ...]

    @property
    def items(self) -> int:
        """How many items there are."""
        return sum(part.items for part in self.parts)


class _Formatted(BaseModel):
    """What a manifest of any format has."""

    format: int = FIRST


class Manifest(_Entry):
    """All of a backup.

    Attributes:
        format: `FORMAT` of who wrote it.
        region: the region's name.
        backup: its document, as the catalog has it.
        shards: its items, by the shards that they were on.
    """

    format: int = FORMAT
    region: str
    backup: BackupDocument
    shards: tuple[ShardParts, ...]

    @classmethod
    async def read(cls, objects: Objects, names: "BackupNames") -> Self:
        """Read a backup's manifest.

        Raises:
            DamagedBackup: there is none, or it can't be understood.
            StorageUnavailable: it can't be read.
        """
        name = f"{names.manifest} in {objects.place}"
        try:
            text = await objects.get(names.manifest)
            # First: a newer one may have what this version takes for a mistake.
            refuse_newer(name, _Formatted.model_validate_json(text).format, FORMAT)
            return cls.model_validate_json(text)
        except (NoObject, NewerFormat) as error:
            raise DamagedBackup(str(error)) from error
        except ValidationError as error:
            raise DamagedBackup(
                f"{name} is no backup's manifest: {error.errors()[0]['msg']}"
            ) from error

    async def check_parts(self, objects: Objects, names: "BackupNames") -> None:
        """Check that all parts are there, by name and length; their content is not read.

        Raises:
            DamagedBackup: one is missing.
            StorageUnavailable: they can't be listed.
        """
        there = {each.key: each.size_bytes for each in await objects.list(names.parts)}
        for shard in self.shards:
            for part in shard.parts:
                key = names.part(part)
                if there.get(key) != part.size_bytes:
                    found = "missing" if key not in there else f"{there[key]} bytes long"
                    raise DamagedBackup(
                        f"{key} in {objects.place} is {found}, it had {part.size_bytes} bytes"
                    )


class BackupNames:
    """Names of one backup's objects.

    Args:
        region: the region's name.
        backup_id: the backup's id.
    """

    def __init__(self, region: str, backup_id: str) -> None:
        self.folder = f"{self.all(region)}/{backup_id}"
        self.parts = f"{self.folder}/parts"
        self.manifest = f"{self.folder}/manifest.json"

    @staticmethod
    def all(region: str) -> str:
        """Return the folder of all backups of a region."""
        return f"{region}/backups"

    def part(self, part: Part) -> str:
        """Return the name of a part."""
        return f"{self.parts}/{part.sha256}.json.gz"
