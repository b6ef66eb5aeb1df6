"""Checkpoints in a folder: taken, sent once, loaded, checked, passed over, removed."""

import asyncio
import hashlib
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from obstore.exceptions import GenericError

from streamtable.consumers.checkpoints import objects, taker
from streamtable.consumers.checkpoints.manifests import (
    FORMAT,
    DamagedCheckpoint,
    Manifest,
    Names,
)
from streamtable.consumers.checkpoints.objects import (
    NoObject,
    Objects,
    StorageRefuses,
    StorageUnavailable,
)
from streamtable.consumers.checkpoints.restore import NoCheckpoint, Restorer, open_store, verify
from streamtable.consumers.checkpoints.taker import Checkpointer
from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.layouts import LayoutDocument, Split
from streamtable.streams.layout import Layout
from tests.streams.shards import (
    CONTEXT,
    TABLE,
    DeleteWrite,
    MemoryLog,
    PutWrite,
    follow,
    make_shard,
)
from tests.support import s3

NAMES = Names("test", 0)
MEMORY = StoreMemory(1024 * 1024, 1024 * 1024)


async def make(path: Path) -> ShardStore:
    return ShardStore(path, MEMORY, {TABLE.id: TABLE}.get)


class Place:
    """A shard with its log, and checkpoints of it in a folder."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.log = MemoryLog()
        self.objects = Objects(str(tmp_path / "objects"))
        self.path = tmp_path / "tables"
        self.layout = Layout(1)
        self.shard = make_shard(self.path, self.log)

    @property
    def store(self) -> ShardStore:
        assert isinstance(self.shard.state, ShardStore)
        return self.shard.state

    def checkpointer(self) -> Checkpointer:
        return Checkpointer(
            objects=self.objects,
            region="test",
            node="node-1",
            layout=self.layout,
            stores={0: self.store},
            owns=lambda _: True,
            scratch=self.tmp_path / "scratch",
            interval_s=3600,
        )

    async def write(self, *keys: str, value: int = 1) -> None:
        for key in keys:
            await self.shard.write(PutWrite(key, value), CONTEXT)
        await follow(self.shard, self.log)

    async def open(
        self, name: str = "other", *, restorer: bool = True, log: MemoryLog | None = None
    ) -> ShardStore:
        path = self.tmp_path / name

        found = Restorer(self.objects, "test", Layout(1)) if restorer else None
        return await open_store(0, path, log or self.log, make, found)  # type: ignore[arg-type]

    async def take_two(self) -> Path:
        """Take checkpoints of `a`, and of `a` and `b`; return a file that only the second has."""
        await self.write("a")
        await self.checkpointer().take()
        old = set(self.files())
        await self.write("b")
        await self.checkpointer().take()
        return next(each for each in self.files() if each not in old and each.stat().st_size > 100)

    def files(self) -> list[Path]:
        return sorted((self.tmp_path / "objects" / NAMES.files).iterdir())

    def manifests(self) -> list[Path]:
        return sorted((self.tmp_path / "objects" / NAMES.manifests).iterdir())


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    await place.shard.take_over()
    return place


def keys(store: ShardStore) -> set[str]:
    return {image.item["id"]["S"] for _, image in store.scan(TABLE.prefix, TABLE.end)}


async def test_an_empty_folder_gets_the_newest_checkpoint(place: Place) -> None:
    await place.write("a", "b")
    await place.checkpointer().take()
    await place.write("c")
    [manifest] = await place.checkpointer().take()
    store = await place.open()
    assert store.applied == manifest.offset == len(place.log.records) - 1
    assert keys(store) == {"a", "b", "c"}


async def test_the_log_goes_on_from_a_checkpoint(place: Place) -> None:
    await place.write("a", "b")
    await place.checkpointer().take()
    await place.write("c")
    await place.shard.write(DeleteWrite("a"), CONTEXT)
    (await place.open()).close()
    again = make_shard(place.tmp_path / "other", place.log)
    await again.take_over()
    assert keys(again.state) == {"b", "c"}  # type: ignore[arg-type]


async def test_a_shard_away_for_too_long_gets_one(place: Place) -> None:
    (await place.open("old", restorer=False)).close()
    await place.write("a", "b")
    await place.checkpointer().take()
    place.log.first = place.store.applied + 1
    store = await place.open("old")
    assert keys(store) == {"a", "b"}


async def test_a_shard_that_the_log_still_serves_keeps_its_files(place: Place) -> None:
    await place.write("a")
    await place.checkpointer().take()
    (await place.open("other")).close()
    inode = (place.tmp_path / "other").stat().st_ino
    await place.write("b")
    await place.checkpointer().take()
    (await place.open("other")).close()
    assert (place.tmp_path / "other").stat().st_ino == inode


async def test_without_one_that_reaches_it_refuses(place: Place) -> None:
    await place.write("a")
    await place.checkpointer().take()
    await place.write("b", "c")
    place.log.first = place.store.applied + 1
    for restorer in (True, False):
        with pytest.raises(NoCheckpoint, match=r"need 0: .*no checkpoint in .* helps"):
            await place.open(restorer=restorer)


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "folder", "loop"])
async def test_a_damaged_one_is_passed_over(
    place: Place, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = await place.take_two()
    content = file.read_bytes()
    if damage in {"missing", "folder", "loop"}:
        file.unlink()
        if damage == "folder":
            file.mkdir()
        elif damage == "loop":
            file.symlink_to(file)
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes(flipped if damage == "flipped" else content[:-1])
    store = await place.open()
    assert keys(store) == {"a"}
    assert "is damaged" in caplog.text


async def test_nothing_is_written_of_one_that_is_passed_over(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be among the next one's files, which have the same names."""
    (await place.take_two()).unlink()
    copy, written = objects._copy, list[tuple[float, float]]()

    def copy_slowly(source: Path, path: Path) -> str:
        begun = time.time()
        if source.exists():
            time.sleep(0.05)
        try:
            return copy(source, path)
        finally:
            written.append((begun, time.time()))

    monkeypatch.setattr(objects, "_copy", copy_slowly)
    assert keys(await place.open()) == {"a"}
    [told] = [each.created for each in caplog.records if "is damaged" in each.message]
    first = [ended for begun, ended in written if begun < told]
    assert len(first) > 1
    assert max(first) <= told


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ('"name":"CURRENT"', '"name":"CURRENU"'),
        ('"name":"MANIFEST-', '"name":"MANIFESU-'),
        (r'"files":\[.*\]', '"files":[]'),
        ('"name":"CURRENT"', r'"name":"CURR\\u0000"'),
        ('"shard":0', '"shard":1'),
        ('"region":"test"', '"region":"tesu"'),
    ],
)
async def test_one_whose_manifest_is_damaged_is_passed_over(
    place: Place, was: str, becomes: str
) -> None:
    await place.write("a")
    [good] = await place.checkpointer().take()
    place.log.first = good.offset + 1
    await place.write("b")
    await place.checkpointer().take()
    newest = place.manifests()[-1]
    damaged, count = re.subn(was, becomes, newest.read_text())
    assert count
    newest.write_text(damaged)
    assert keys(await place.open()) == {"a"}


async def test_one_that_can_not_be_read_for_now_is_not_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.write("a")
    await place.checkpointer().take()

    async def away(self: Objects, key: str, path: Path) -> str:
        raise StorageUnavailable("away")

    with monkeypatch.context() as failing:
        failing.setattr(Objects, "download", away)
        with pytest.raises(StorageUnavailable, match="away"):
            await place.open()
    assert keys(await place.open()) == {"a"}


async def test_what_a_damaged_one_would_have_replaced_is_kept(place: Place) -> None:
    (await place.open("old", restorer=False)).close()
    await place.write("a")
    await place.checkpointer().take()
    for file in place.files():
        file.unlink()
    place.log.first = 1
    with pytest.raises(NoCheckpoint):
        await place.open("old")
    place.log.first = 0
    assert (await place.open("old", restorer=False)).applied == -1
    names = {path.name for path in place.tmp_path.iterdir()}
    assert names == {"objects", "old", "scratch", "tables"}


async def test_one_of_another_log_is_passed_over(place: Place) -> None:
    await place.write("a", "b")
    await place.checkpointer().take()
    other = MemoryLog()
    shard = make_shard(place.tmp_path / "elsewhere", other)
    await shard.take_over()
    for number in range(5):
        await shard.write(PutWrite("x", number), CONTEXT)
    store = await place.open(log=other)
    assert store.applied == -1


async def test_one_that_is_ahead_of_the_log_is_passed_over(place: Place) -> None:
    await place.write("a", "b")
    await place.checkpointer().take()
    del place.log.records[2:]
    assert (await place.open()).applied == -1


async def test_for_a_shard_that_is_split_off_only_one_from_before_the_split_will_do(
    place: Place,
) -> None:
    await place.write("a")
    [before] = await place.checkpointer().take()
    await place.write("b")
    [after] = await place.checkpointer().take()
    # Taken as soon as the shard was split: rows may be gone from it.
    restorer = Restorer(place.objects, "test", Layout(1))
    log: Any = place.log
    found, passed_over = await restorer.restore(
        0, place.tmp_path / "child", log, make, above=-1, below=after.offset
    )
    assert found == before
    [reason] = passed_over
    assert f"the shard was split at {after.offset}" in reason


@pytest.mark.parametrize(("known", "usable"), [(1, True), (2, True), (3, False)])
async def test_one_of_a_number_of_shards_that_there_never_was_is_passed_over(
    place: Place, known: int, usable: bool
) -> None:
    await place.write("a")
    [manifest] = await place.checkpointer().take()
    layout = Layout(known)
    if known == 2:
        split = Split(before=1, after=2, ends=(9,), index_ends=(0,), at=1.0)
        layout.take(LayoutDocument(count=2, splits=(split,)))
    log: Any = place.log
    found, _ = await Restorer(place.objects, "test", layout).restore(
        0, place.tmp_path / "other", log, make, above=-1
    )
    assert found == (manifest if usable else None)


async def test_a_newer_format_is_not_read(place: Place) -> None:
    await place.write("a")
    await place.checkpointer().take()
    [path] = place.manifests()
    newer = f'"format":{FORMAT + 1},"of_a_later_version":1'
    path.write_text(path.read_text().replace(f'"format":{FORMAT}', newer))
    with pytest.raises(DamagedCheckpoint, match=f"has format {FORMAT + 1}"):
        await Manifest.read(place.objects, f"{NAMES.manifests}/{path.name}")
    assert (await place.open()).applied == -1


async def test_what_was_sent_is_not_sent_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = place.checkpointer()
    await place.write(*(f"key-{number}" for number in range(50)))
    [first] = await checkpointer.take()
    sent: list[str] = []
    put = Objects.put

    async def listen(self: Objects, key: str, content: bytes | Path) -> None:
        sent.append(key)
        await put(self, key, content)

    monkeypatch.setattr(Objects, "put", listen)
    await place.write("one more")
    [second] = await checkpointer.take()
    tables = {file.sha256 for file in first.files if file.name.endswith(".sst")}
    assert tables < {file.sha256 for file in second.files}
    assert not any(NAMES.file(sha256) in sent for sha256 in tables)


async def test_a_shard_that_did_not_change_gets_no_new_one(place: Place) -> None:
    await place.write("a")
    checkpointer = place.checkpointer()
    assert len(await checkpointer.take()) == 1
    assert await checkpointer.take() == []


@pytest.mark.parametrize("damage", ["manifest", "file", "size"])
async def test_one_that_is_not_whole_any_more_is_taken_anew(place: Place, damage: str) -> None:
    await place.write(*(f"key-{number}" for number in range(50)))
    checkpointer = place.checkpointer()
    await checkpointer.take()
    lost = place.manifests()[0] if damage == "manifest" else place.files()[0]
    if damage == "size":
        lost.write_bytes(lost.read_bytes()[:-1])
    else:
        lost.unlink()
    [again] = await checkpointer.take()
    assert await checkpointer.take() == []
    store = await place.open()
    assert store.applied == again.offset
    assert len(keys(store)) == 50


async def test_those_of_another_log_are_no_reason_to_remove_any(place: Place) -> None:
    await place.write("a", *(str(number) for number in range(taker._KEPT + 2)))
    foreign = [f"{10**9 + number:020}-1.json" for number in range(taker._KEPT + 1)]
    for name in foreign:
        (place.tmp_path / "objects" / NAMES.manifests).mkdir(parents=True, exist_ok=True)
        (place.tmp_path / "objects" / NAMES.manifests / name).write_text("{}")
    taken = []
    checkpointer = place.checkpointer()
    for number in range(taker._KEPT + 1):
        await place.write("a", value=number)
        [manifest] = await checkpointer.take()
        taken.append(NAMES.manifest(manifest).rpartition("/")[2])
    kept = [path.name for path in place.manifests()]
    assert kept == [*taken[-taker._KEPT :], *foreign[-taker._KEPT :]]
    assert (await place.open()).applied == place.store.applied


async def test_old_ones_are_removed_with_their_files(place: Place) -> None:
    checkpointer = place.checkpointer()
    for number in range(6):
        await place.write("a", value=number)
        await checkpointer.take()
    manifests = place.manifests()
    assert len(manifests) == taker._KEPT
    # A file that nobody names is kept while its manifest may be on its way.
    old = datetime.now(UTC) - timedelta(hours=2)
    for file in place.files():
        os.utime(file, (old.timestamp(), old.timestamp()))
    await place.write("a", value=7)
    await checkpointer.take()
    needed = {
        file.sha256
        for path in place.manifests()
        for file in Manifest.model_validate_json(path.read_text()).files
    }
    assert {file.name for file in place.files()} == needed
    assert (await place.open()).applied == place.store.applied


async def test_what_a_killed_node_left_half_written_is_removed(place: Place) -> None:
    checkpointer = place.checkpointer()
    await place.write("a")
    await checkpointer.take()
    [manifest], files = place.manifests(), place.files()
    left = [path.with_name(f"{path.name}#0") for path in (manifest, files[0])]
    written = files[-1].with_name(f"{files[-1].name}#0")
    for path in (*left, written):
        path.write_bytes(b"con")
    old = datetime.now(UTC) - timedelta(hours=2)
    for path in left:
        os.utime(path, (old.timestamp(), old.timestamp()))
    await place.write("b")
    await checkpointer.take()
    assert not any(path.exists() for path in left)
    # Somebody may be at it.
    assert written.exists()
    assert {manifest, *files} < {*place.manifests(), *place.files()}


async def test_one_of_before_a_split_is_kept_until_what_was_split_off_has_its_own(
    place: Place,
) -> None:
    checkpointer = place.checkpointer()

    async def taken() -> int:
        await place.write("a", value=place.store.applied)
        [manifest] = await checkpointer.take()
        return manifest.offset

    before = [await taken(), await taken()][-1]
    split = Split(before=1, after=2, ends=(before + 1,), index_ends=(0,), at=1.0)
    place.layout.take(LayoutDocument(count=2, splits=(split,)))
    after = [await taken() for _ in range(5)]
    assert [Names.offset(path.name) for path in place.manifests()] == [
        before,
        *after[-taker._KEPT :],
    ]
    restorer, log = Restorer(place.objects, "test", place.layout), place.log
    path = place.tmp_path / "child"
    found, _ = await restorer.restore(0, path, log, make, above=-1, below=before + 1)  # type: ignore[arg-type]
    assert found is not None
    child = place.tmp_path / "objects" / Names("test", 1).manifests
    child.mkdir(parents=True)
    (child / f"{0:020}-1.json").touch()
    after.append(await taken())
    assert [Names.offset(path.name) for path in place.manifests()] == after[-taker._KEPT :]


async def test_one_that_was_not_finished_is_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.write("a")

    async def fail(self: Objects, key: str, content: bytes | Path) -> None:
        if isinstance(content, bytes):
            raise StorageUnavailable("away")
        await put(self, key, content)

    put = Objects.put
    monkeypatch.setattr(Objects, "put", fail)
    with pytest.raises(StorageUnavailable):
        await place.checkpointer().take()
    assert (await place.open()).applied == -1
    assert not list((place.tmp_path / "scratch").iterdir())


async def test_writes_go_on_while_one_is_taken(place: Place) -> None:
    await place.write("a")
    taking = asyncio.create_task(place.checkpointer().take())
    number = 0
    while not taking.done():
        number += 1
        await place.write("b", value=number)
        await asyncio.sleep(0)
    [manifest] = await taking
    assert manifest.offset < place.store.applied
    (await place.open()).close()
    again = make_shard(place.tmp_path / "other", place.log)
    await again.take_over()
    assert keys(again.state) == {"a", "b"}  # type: ignore[arg-type]


async def test_a_checkpoint_can_be_verified(place: Place, tmp_path: Path) -> None:
    await place.write("a")
    [manifest] = await place.checkpointer().take()
    (tmp_path / "look").mkdir()
    await verify(place.objects, NAMES, manifest, tmp_path / "look")
    assert not list((tmp_path / "look").iterdir())
    place.files()[0].write_bytes(b"something else")
    with pytest.raises(DamagedCheckpoint, match="has the checksum"):
        await verify(place.objects, NAMES, manifest, tmp_path / "look")


async def test_places_that_cant_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageUnavailable, match="ftp://somewhere can't hold checkpoints"):
        Objects("ftp://somewhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="can't hold checkpoints"):
        Objects(str(tmp_path / "file"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nowhere")
    with pytest.raises(StorageUnavailable, match="AWS_ENDPOINT_URL_S3 is no"):
        Objects("s3://bucket/tables")
    with pytest.raises(NoObject):
        await Objects(str(tmp_path)).get("nothing")


async def test_a_folder_that_can_t_be_written_is_noticed(tmp_path: Path) -> None:
    place = Objects(str(tmp_path))
    await place.check("test/starts/node")
    assert not await place.list("test")
    assert place.works
    (tmp_path / "other").write_text("")
    with pytest.raises(StorageRefuses, match=r"can't hold checkpoints: .*--checkpoints"):
        await place.check("other/starts/node")
    assert not place.works


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("403 Forbidden", StorageRefuses),
        ("404 Not Found", StorageRefuses),
        ("503 Slow Down", StorageUnavailable),
        (None, StorageUnavailable),
    ],
)
async def test_what_a_bucket_answers_tells_whether_it_is_one(
    monkeypatch: pytest.MonkeyPatch, status: str | None, error: type[StorageUnavailable]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if status is not None:
                head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                writer.write(head.encode())
        writer.close()

    monkeypatch.setattr(objects, "_CHECK_S", 0.2 if error is StorageUnavailable else 30.0)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        for name, value in s3.CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        place = Objects("s3://bucket/tables")
        with pytest.raises(error) as caught:
            await place.check("test/starts/node")
    assert type(caught.value) is error
    assert not place.works


async def test_what_a_bucket_s_server_says_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "Generic S3 error: 403 Forbidden:\n<Code>InvalidAccessKeyId</Code>"
    refuse = Mock(side_effect=GenericError(f"{said}\n\nDebug source:\nGeneric {{\n}}"))
    monkeypatch.setattr("obstore.get_async", refuse)
    with pytest.raises(StorageUnavailable) as caught:
        await Objects("s3://bucket/tables").get("a")
    assert str(caught.value) == f"can't read a in s3://bucket/tables: {said.replace(chr(10), ' ')}"


async def test_a_file_that_can_not_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Objects(str(tmp_path / "objects"))
    (tmp_path / "file").write_bytes(b"content")
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", Mock(side_effect=OSError("no space")))
        with pytest.raises(StorageUnavailable, match="no space"):
            await place.put("some/file", tmp_path / "file")
    assert not list((tmp_path / "objects/some").iterdir())
    # What a node leaves that dies meanwhile is in no listing.
    (tmp_path / "objects/some/file#0").write_bytes(b"con")
    assert not await place.list("some")
    await place.put("some/file", tmp_path / "file")
    assert [each.key for each in await place.list("some")] == ["some/file"]
    assert await place.get("some/file") == b"content"
    assert len(list((tmp_path / "objects/some").iterdir())) == 1


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("size", [0, 1000, 10_500])
async def test_a_file_comes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, *, folder: bool
) -> None:
    monkeypatch.setattr(objects, "_PART_BYTES", 1000)
    content = os.urandom(size)
    place = Objects(str(tmp_path / "objects"))
    if not folder:  # then in parts, as from a bucket
        monkeypatch.setattr(place, "_folder", None)
    await place.put("file", content)
    assert await place.download("file", tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "file").read_bytes() == content
    with pytest.raises(NoObject):
        await place.download("other", tmp_path / "other")
