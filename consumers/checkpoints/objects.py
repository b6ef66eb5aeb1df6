"""Where checkpoints are kept: a folder, or a bucket of S3, Google Cloud or Azure."""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, from_url

from streamtable.core.errors import StreamtableError

__all__ = [
    "BadObject",
    "NoObject",
    "ObjectEntry",
    "Objects",
    "StorageRefuses",
    "StorageUnavailable",
    "sha256_of",
]

logger = logging.getLogger(__name__)

_PART_BYTES: Final = 4 * 1024 * 1024
_PARTS_AHEAD: Final = 3
_SYNCED_BYTES: Final = 2 * 1024 * 1024
_SCHEMES: Final = ("s3://", "s3a://", "gs://", "az://", "azure://", "abfs://", "abfss://")
_FAILURES: Final = (BaseError, OSError)
# What obstore puts behind the name of a file that it has not finished, before a number; such a file
# is in no listing.
_UNFINISHED: Final = "#"
# The disk has no room, or the process no file: that says nothing about an object.
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}
# What is so until a person changes it.
_NOT_OURS: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR}
_REFUSALS: Final = (FileNotFoundError, NotFoundError, PermissionDeniedError, UnauthenticatedError)
_CHECK_S: Final = 5.0


class StorageUnavailable(StreamtableError, OSError):
    """The object storage can't be read or written."""


class StorageRefuses(StorageUnavailable):
    """The object storage answers, and is none for this node: as it was told, it never will be."""


class BadObject(StorageUnavailable):
    """One object can't be read, as others may be: it is not there, is no file, is not for us."""


class NoObject(BadObject, FileNotFoundError):
    """The object storage has no object of that name."""


class ObjectEntry(NamedTuple):
    """One object of a listing."""

    key: str
    size_bytes: int
    modified: datetime


class Objects:
    """Files under names, in a folder or a bucket.

    Args:
        place: a folder, or `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
            A bucket's credentials, region and endpoint come from the environment, by the names
            that its own tools use (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL_S3`,
            `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` ...).

    Attributes:
        works: whether what was asked of it last went well; that an object is not there is no
            failure.

    Raises:
        StorageUnavailable: the place can't be one.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.works = True
        self._folder = None if "://" in place else Path(place).absolute()
        try:
            self._store = _open(place)
        except (*_FAILURES, ValueError, TypeError) as error:
            raise StorageUnavailable(
                f"{place} can't hold checkpoints: {_line(error)}. It is a folder, or one of "
                f"{', '.join(f'{scheme}...' for scheme in ('s3://', 'gs://', 'az://'))}"
            ) from error

    async def check(self, key: str) -> None:
        """Find out whether objects can be written, listed and removed here.

        Args:
            key: the name of an object for that, in a folder that has nothing else.

        Raises:
            StorageRefuses: they can't, and that needs a person.
            StorageUnavailable: it can't be told now.
        """
        folder = key.rpartition("/")[0]
        try:
            async with asyncio.timeout(_CHECK_S):
                if self._folder is None:
                    await self.put(key, b"")
                else:
                    # What obstore says of a folder has no number.
                    with self._asked("write", key):
                        await asyncio.to_thread(_make, self._folder / key)
                await self.list(folder)
                await self._try_to_delete(key)
        except TimeoutError:
            self.works = False
            raise StorageUnavailable(f"{self.place} gives no answer in {_CHECK_S:.0f} s") from None
        except StorageUnavailable as error:
            if _is_refusal(error.__cause__):
                raise StorageRefuses(
                    f"{self.place} can't hold checkpoints: {error}. Name another place with "
                    "--checkpoints, or let this node write there; for a bucket, look at what the "
                    "environment says of its credentials, region and endpoint"
                ) from error
            raise

    async def _try_to_delete(self, key: str) -> None:
        try:
            await self.delete([key])
        except StorageUnavailable as error:
            logger.warning("what is too old will not be removed: %s", error)

    async def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, whole or not at all; an object of that name is replaced.

        Raises:
            StorageUnavailable: it may be there or not.
        """
        with self._asked("write", key):
            if self._folder is not None and isinstance(content, Path):
                await asyncio.to_thread(_place, content, self._folder / key)
            else:
                await obstore.put_async(self._store, key, content)

    async def get(self, key: str) -> bytes:
        """Return an object's content.

        Raises:
            NoObject: there is none.
            BadObject: it can't be read.
            StorageUnavailable: none can.
        """
        with self._asked("read", key):
            if self._folder is not None:
                return await asyncio.to_thread((self._folder / key).read_bytes)
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

    async def download(self, key: str, path: Path) -> str:
        """Write an object's content to a new file, synced; return its SHA-256.

        Raises:
            NoObject: there is none.
            BadObject: it can't be read.
            StorageUnavailable: none can, or the file can't be written.
        """
        with self._asked("read", key):
            if self._folder is not None:
                return await asyncio.to_thread(_copy, self._folder / key, path)
            return await self._fetch(key, path)

    async def _fetch(self, key: str, path: Path) -> str:
        """Do as `download`, in parts, some ahead of what is written: over several connections."""
        digest = hashlib.sha256()
        ahead: deque[asyncio.Task[Any]] = deque()
        try:
            size = (await obstore.head_async(self._store, key))["size"]
            starts = iter(range(0, size, _PART_BYTES))
            with path.open("xb", buffering=0) as file:
                while True:
                    for start in islice(starts, _PARTS_AHEAD - len(ahead)):
                        end = min(size, start + _PART_BYTES)
                        ahead.append(asyncio.create_task(self._part(key, start, end)))
                    if not ahead:
                        break
                    part = await ahead.popleft()
                    await asyncio.to_thread(_take, file, digest, part)
                await asyncio.to_thread(os.fsync, file.fileno())
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
        return digest.hexdigest()

    async def _part(self, key: str, start: int, end: int) -> Any:
        return await obstore.get_range_async(self._store, key, start=start, end=end)

    async def list(self, prefix: str) -> list[ObjectEntry]:
        """Return the objects whose names begin with a folder's name, in the order of the names.

        Raises:
            StorageUnavailable: they can't be listed.
        """
        entries = []
        with self._asked("list", prefix):
            async for page in obstore.list(self._store, prefix):
                entries += [
                    ObjectEntry(each["path"], each["size"], each["last_modified"]) for each in page
                ]
        return sorted(entries)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects.

        Raises:
            StorageUnavailable: some may be there still.
        """
        if not keys:
            return
        with self._asked("remove", keys[0]):
            await obstore.delete_async(self._store, list(keys))

    async def delete_unfinished(self, prefix: str, before: datetime) -> None:
        """Remove what was being written to a folder when its writer was killed.

        A bucket has nothing of the kind: there, an object is seen when it is whole.

        Args:
            prefix: the folder's name.
            before: what was written to since then may be somebody's who goes on.

        Raises:
            StorageUnavailable: some may be there still.
        """
        if self._folder is None:
            return
        with self._asked("remove", prefix):
            await asyncio.to_thread(_sweep, self._folder / prefix, before.timestamp())

    @contextlib.contextmanager
    def _asked(self, what: str, key: str) -> Iterator[None]:
        """Take note of whether something goes well, and say what was to be done if it does not."""
        try:
            yield
        except _FAILURES as error:
            kind = _kind(error)
            self.works = kind is NoObject and what == "read"
            raise kind(f"can't {what} {key} in {self.place}: {_line(error)}") from error
        self.works = True


def _line(error: BaseException) -> str:
    """Return what an error says, in a line: obstore's are followed by what it has in its memory."""
    return " ".join(str(error).partition("\n\nDebug source:")[0].split())


def _kind(error: BaseException) -> type[StorageUnavailable]:
    """Tell what is wrong with one object from what is wrong with all of them."""
    if isinstance(error, NotFoundError | FileNotFoundError):
        return NoObject
    here = isinstance(error, OSError) and error.errno not in _FULL
    return BadObject if here or isinstance(error, PermissionDeniedError) else StorageUnavailable


def _is_refusal(error: BaseException | None) -> bool:
    """Whether a failure stays what it is until a person does something about it."""
    return isinstance(error, _REFUSALS) or (isinstance(error, OSError) and error.errno in _NOT_OURS)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(place: str) -> Any:
    if not place.startswith(_SCHEMES):
        if "://" in place:
            raise ValueError("its scheme is not known")
        folder = Path(place).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(folder)
    if not place.startswith(("s3://", "s3a://")):
        return from_url(place)
    # The endpoint of DynamoDB may be in the environment too, and is not meant.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3")
    if endpoint is None:
        return from_url(place)
    if not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"AWS_ENDPOINT_URL_S3 is no http(s)://...: {endpoint}")
    return from_url(
        place,
        endpoint=endpoint,
        client_options={"allow_http": endpoint.startswith("http://")},
    )


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _place(source: Path, path: Path) -> None:
    """Copy a file to a name, whole or not at all, synced piece by piece.

    The log is on the same disk, most likely: its syncs would wait while a whole file is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}{_UNFINISHED}0")
    try:
        with source.open("rb", buffering=0) as found, fresh.open("wb", buffering=0) as file:
            while part := found.read(_SYNCED_BYTES):
                _write(file, part)
                os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)  # on a full disk it takes what others need
        raise


def _sweep(folder: Path, before_s: float) -> None:
    """Remove files that are not finished, and were not written to lately."""
    for path in folder.glob(f"*{_UNFINISHED}*"):
        # Whoever wrote it may have finished just now, or another node has removed it.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before_s:
                path.unlink()


def _copy(source: Path, path: Path) -> str:
    """Copy a file within the kernel; return the SHA-256 of what was written."""
    shutil.copyfile(source, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _take(file: BinaryIO, digest: Any, part: Any) -> None:
    digest.update(part)
    _write(file, part)


def _write(file: BinaryIO, part: Any) -> None:
    """Write all of it: a file without a buffer may take less, as on a disk that is nearly full."""
    data = memoryview(part)
    while data:
        data = data[file.write(data) :]
