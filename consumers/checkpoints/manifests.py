"""What a checkpoint is: a manifest that names its files by their content.

    {region}/shard-0003/files/{sha256}
    {region}/shard-0003/manifests/{offset, 20 digits}-{milliseconds since 1970}.json

Files are written first, the manifest last: a checkpoint is there whole or not at all. A file that
an older checkpoint has is not written again.
"""

from collections.abc import Iterable
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamtable.consumers.checkpoints.objects import ObjectEntry, Objects
from streamtable.core.errors import StreamtableError
from streamtable.core.formats import FIRST, NewerFormat, refuse_newer

__all__ = ["FORMAT", "DamagedCheckpoint", "FileEntry", "Manifest", "Names"]

FORMAT: Final = 1
"""Version of the manifest; a newer one is not read."""


class DamagedCheckpoint(StreamtableError, ValueError):
    """A checkpoint's object is not what its manifest says, or can't be read."""


class FileEntry(BaseModel):
    """One file of a checkpoint.

    Attributes:
        name: its name in the shard's folder.
        size_bytes: its length.
        sha256: of its content, hexadecimal; the last part of its object's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w.-]+$")
    size_bytes: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Formatted(BaseModel):
    """What a manifest of any format has."""

    format: int = FIRST


class Manifest(BaseModel):
    """One checkpoint of one shard.

    Attributes:
        format: `FORMAT` of who wrote it.
        region: the region's name.
        shard: the shard's number.
        shards: how many the region has.
        offset: the last offset of the change log that is in it.
        epoch: the epoch in force there, by which the log it belongs to is recognized.
        barrier: the offset of that epoch's barrier.
        index_offset: the next offset of the indexes' log that is not in it.
        taken_ms: when, milliseconds since 1970.
        node: the node that took it.
        files: what it is made of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    region: str
    shard: int
    shards: int
    offset: int
    epoch: str | None
    barrier: int | None
    index_offset: int
    taken_ms: int
    node: str
    files: tuple[FileEntry, ...]

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    @classmethod
    async def read(cls, objects: Objects, key: str) -> Self:
        """Read a manifest.

        Raises:
            DamagedCheckpoint: it is none, or of a newer version.
            StorageUnavailable: it can't be read.
        """
        text = await objects.get(key)
        name = f"{key} in {objects.place}"
        try:
            # First: a newer one may have what this version takes for a mistake.
            refuse_newer(name, _Formatted.model_validate_json(text).format, FORMAT)
            return cls.model_validate_json(text)
        except NewerFormat as error:
            raise DamagedCheckpoint(str(error)) from error
        except ValidationError as error:
            raise DamagedCheckpoint(
                f"{name} is no checkpoint's manifest: {error.errors()[0]['msg']}"
            ) from error


class Names:
    """Names of one shard's objects.

    Args:
        region: the region's name.
        shard: the shard's number.
    """

    def __init__(self, region: str, shard: int) -> None:
        self.folder = f"{region}/shard-{shard:04}"
        self.files = f"{self.folder}/files"
        self.manifests = f"{self.folder}/manifests"

    def file(self, sha256: str) -> str:
        """Return the name of a file."""
        return f"{self.files}/{sha256}"

    def manifest(self, manifest: Manifest) -> str:
        """Return the name of a manifest; later ones sort after earlier ones."""
        return f"{self.manifests}/{manifest.offset:020}-{manifest.taken_ms}.json"

    @staticmethod
    def offset(manifest: str) -> int:
        """Return the offset in the name of a manifest."""
        return int(manifest.rpartition("/")[2].partition("-")[0])

    @staticmethod
    def newest_first(found: Iterable[ObjectEntry]) -> list[str]:
        """Return the names of manifests, that of the newest checkpoint first."""
        return sorted((each.key for each in found if each.key.endswith(".json")), reverse=True)
