"""Items on their way into a backup, and out of it into a table: on one shard, without a node."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from streamtable.consumers.backups import filler, patience, writer
from streamtable.consumers.backups.filler import RestoreFiller
from streamtable.consumers.backups.keeper import BackupKeeper
from streamtable.consumers.backups.manifests import FORMAT, BackupNames, DamagedBackup, Manifest
from streamtable.consumers.backups.writer import BackupWriter
from streamtable.consumers.checkpoints.objects import Objects
from streamtable.core.backups import AVAILABLE, CREATING, FAILED, REMOVING, BackupDocument
from streamtable.core.documents import Restore
from streamtable.core.errors import InternalServerError, ResourceNotFound, ServiceUnavailable
from streamtable.core.tables import Table
from streamtable.streams.feed import fed_through
from streamtable.streams.layout import Layout
from streamtable.streams.owner import Moved
from streamtable.streams.records import COMMIT
from tests.streams.shards import (
    CONTEXT,
    TABLE,
    DeleteWrite,
    MemoryLog,
    PutWrite,
    follow,
    make_shard,
    until,
)

BACKUP = BackupDocument(
    id="01489602797149-73d8d5bc",
    name="daily",
    status=CREATING,
    created=1489602797.149,
    table=TABLE.document,
    item_count=0,
    size_bytes=0,
)
COPY = Table(
    TABLE.document.model_copy(
        update={
            "name": "copy",
            "id": "00000000-0000-0000-0000-000000000008",
            "status": "CREATING",
            "restore": Restore(backup=BACKUP.arn, source=TABLE.arn, at=0, in_progress=True),
        }
    )
)
NAMES = BackupNames("test", BACKUP.id)


class MemoryCatalog:
    """Backups and tables in dicts, as far as they are looked at here."""

    def __init__(self) -> None:
        self.known = {BACKUP.id: BACKUP}
        self.copied = {TABLE.id: TABLE, COPY.id: COPY}

    def on_backup(self, callback: Any) -> None:
        pass

    def backups(self) -> list[BackupDocument]:
        return list(self.known.values())

    def backup(self, backup_id: str) -> BackupDocument | None:
        return self.known.get(backup_id)

    def by_id(self, table_id: str) -> Table | None:
        return self.copied.get(table_id)

    async def put_backup(self, document: BackupDocument) -> None:
        self.known[document.id] = document

    async def remove_backup(self, document: BackupDocument) -> None:
        del self.known[document.id]


class Region:
    """One shard with the items of TABLE, another one for those of COPY, and a folder."""

    def __init__(self, tmp_path: Path) -> None:
        self.objects = Objects(str(tmp_path / "objects"))
        self.logs = {TABLE.id: MemoryLog(), COPY.id: MemoryLog()}
        self.shard = make_shard(tmp_path / "source", self.logs[TABLE.id])
        self.target = make_shard(tmp_path / "target", self.logs[COPY.id], table=COPY)
        self.layout = Layout(1)
        catalog: Any = MemoryCatalog()
        self.catalog = catalog
        self.stores: Any = {0: self.shard.state}
        self.scratch = tmp_path / "scratch"
        self.writer = BackupWriter(
            catalog=catalog,
            layout=self.layout,
            stores=self.stores,
            objects=self.objects,
            region="test",
            scratch=self.scratch,
        )
        self.fail: list[bool] = []
        routes: Any = self
        self.filler = RestoreFiller(
            catalog=catalog,
            layout=self.layout,
            routes=routes,
            objects=self.objects,
            region="test",
            scratch=self.scratch,
        )

    def keeper(self, objects: Objects | None = None) -> BackupKeeper:
        return BackupKeeper(
            catalog=self.catalog,
            layout=self.layout,
            ask=self.ask,
            leads=lambda _: True,
            objects=objects,
            region="test",
            scratch=self.scratch,
        )

    async def ask(self, number: int, method: str, arguments: Any) -> Any:
        if number != 0:
            raise ServiceUnavailable("There is no such shard.")
        if method == "fed":
            return await fed_through(self.target, *arguments)
        return await self.writer.calls[method](self.shard, arguments)

    async def change(self, number: int, method: str, arguments: Any) -> Any:
        """Write rows; `fail` has for each call whether the answer is lost."""
        answer = await self.filler.calls[method](self.target, json.loads(json.dumps(arguments)))
        if self.fail and self.fail.pop(0):
            raise InternalServerError
        return answer

    async def put(self, *keys: str) -> None:
        for key in keys:
            await self.shard.write(PutWrite(key, 1), CONTEXT)
        await follow(self.shard, self.logs[TABLE.id])

    async def back_up(self) -> BackupDocument:
        """Have the backup made, or whatever becomes of it."""
        await self.keeper(self.objects)._finish(self.catalog.backup(BACKUP.id))
        found: BackupDocument = self.catalog.backup(BACKUP.id)
        return found

    async def restore(self) -> Any:
        return await self.filler.calls["restore"](self.target, [COPY.id, BACKUP.id, 0])

    def written(self) -> list[str]:
        """The keys that were written to COPY, in the log's order."""
        return [
            change.keys["id"]["S"]
            for record in self.logs[COPY.id].records
            if record.kind == COMMIT
            for change in record.changes()
        ]

    def lines(self) -> list[bytes]:
        """The lines of all parts."""
        return [
            line
            for path in self.parts()
            for line in gzip.decompress(path.read_bytes()).splitlines()
        ]

    def parts(self) -> list[Path]:
        return sorted(Path(self.objects.place, NAMES.parts).glob("*.json.gz"))


@pytest.fixture
async def region(tmp_path: Path) -> Region:
    region = Region(tmp_path)
    await region.shard.take_over()
    await region.target.take_over()
    return region


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts, pieces and batches of a few items each."""
    monkeypatch.setattr(writer, "_PIECE_BYTES", 100)
    monkeypatch.setattr(writer, "_PART_BYTES", 300)
    monkeypatch.setattr(filler, "_BATCH_BYTES", 100)


KEYS = [f"k{number}" for number in range(40)]


async def test_a_backup_has_what_was_answered_before(region: Region, small: None) -> None:
    await region.put(*KEYS)
    await region.shard.write(DeleteWrite("k0"), CONTEXT)
    # Not materialized yet; it is by the time that the rows are read.
    making = asyncio.create_task(region.back_up())
    await until(lambda: region.writer._calls._working)
    await follow(region.shard, region.logs[TABLE.id])
    done = await making
    assert done.status == AVAILABLE
    sizes = [image.size_bytes for _, image in region.shard.scan(TABLE.prefix, TABLE.end)]
    assert (done.item_count, done.size_bytes) == (39, sum(sizes))
    manifest = await Manifest.read(region.objects, NAMES)
    assert manifest.backup == done
    [shard] = manifest.shards
    assert shard.offset == region.shard.owner.last
    lines = region.lines()
    assert {json.loads(line)["Item"]["id"]["S"] for line in lines} == set(KEYS[1:])
    assert len(lines) == sum(part.items for part in shard.parts) == 39
    assert len(shard.parts) > 3
    assert list(region.scratch.iterdir()) == []


async def test_what_is_written_meanwhile_is_not_in_it(region: Region, small: None) -> None:
    await region.put(*KEYS)
    making = asyncio.create_task(region.back_up())
    await until(region.parts)
    await region.put("later", *KEYS[:5])
    assert (await making).item_count == 40


async def test_a_table_without_items(region: Region) -> None:
    assert (await region.back_up()).item_count == 0
    assert region.parts() == []
    assert await region.restore() == {"damaged": None}


async def test_each_item_is_restored_once(region: Region, small: None) -> None:
    await region.put(*KEYS)
    await region.back_up()
    assert await region.restore() == {"damaged": None}
    found = region.written()
    assert sorted(found) == sorted(KEYS)
    # Whoever begins anew has nothing to write, and needs no part for that.
    for path in region.parts():
        path.unlink()
    assert await region.restore() == {"damaged": None}
    assert region.written() == found


async def test_a_restore_goes_on_where_it_was(region: Region, small: None) -> None:
    await region.put(*KEYS)
    await region.back_up()
    # Each second answer is lost.
    region.fail = [False, True] * 4
    for _ in range(4):
        with pytest.raises(InternalServerError):
            await region.restore()
    assert await region.restore() == {"damaged": None}
    assert sorted(region.written()) == sorted(KEYS)


async def test_a_batch_that_comes_late_does_nothing(region: Region, small: None) -> None:
    await region.put(*KEYS)
    await region.back_up()
    sent: list[Any] = []
    change = region.change

    async def note(number: int, method: str, arguments: Any) -> Any:
        sent.append(arguments)
        return await change(number, method, arguments)

    region.change = note  # type: ignore[method-assign]
    await region.restore()
    before = region.written()
    for arguments in sent:
        assert not await change(0, "restore_rows", arguments)
    # The table is in use now.
    done = COPY.document.model_copy(update={"status": "ACTIVE", "restore": None})
    region.catalog.copied[COPY.id] = Table(done)
    with pytest.raises(ResourceNotFound):
        await change(0, "restore_rows", sent[-1])
    assert region.written() == before


async def test_a_damaged_part_is_told(region: Region, small: None) -> None:
    await region.put(*KEYS)
    await region.back_up()
    manifest = await Manifest.read(region.objects, NAMES)
    await manifest.check_parts(region.objects, NAMES)
    path = region.parts()[-1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert path.name in (await region.restore())["damaged"]
    path.write_bytes(content[:-1])
    with pytest.raises(DamagedBackup, match=f"{path.name} .* bytes long, it had"):
        await manifest.check_parts(region.objects, NAMES)
    path.unlink()
    with pytest.raises(DamagedBackup, match=f"{path.name} .* is missing"):
        await manifest.check_parts(region.objects, NAMES)
    assert "can't read" in (await region.restore())["damaged"]


async def test_the_shards_are_split_meanwhile(region: Region) -> None:
    await region.put(*KEYS)
    region.layout.count = 2
    with pytest.raises(ServiceUnavailable, match="has 2 shards now"):
        await region.writer.calls["backup"](region.shard, [BACKUP.id, 1])
    region.layout.count = 1
    await region.back_up()
    region.layout.count = 2
    with pytest.raises(ServiceUnavailable, match="has 2 shards now"):
        await region.filler.calls["restore_rows"](region.target, [COPY.id, 0, None, [0, 1], 1, []])


async def test_the_shard_moves_meanwhile(region: Region, small: None) -> None:
    await region.put(*KEYS)
    asked = asyncio.ensure_future(region.ask(0, "backup", [BACKUP.id, 1]))
    await until(region.parts)
    region.stores.clear()
    with pytest.raises(Moved):
        await asked
    assert list(region.scratch.iterdir()) == []


async def test_a_manifest_that_is_there_is_enough(region: Region) -> None:
    await region.put("k1")
    await region.back_up()
    # It was written, and nobody could tell the catalog of it.
    region.catalog.known[BACKUP.id] = BACKUP
    await region.put("k2")
    assert (await region.back_up()).item_count == 1


async def test_a_backup_of_a_table_that_is_gone_fails(region: Region) -> None:
    del region.catalog.copied[TABLE.id]
    assert (await region.back_up()).status == FAILED


async def test_what_can_not_be_made_for_long_fails(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    region.layout.count = 2  # and nobody knows of the second shard
    with pytest.raises(ServiceUnavailable):
        await region.back_up()
    assert region.catalog.backup(BACKUP.id) == BACKUP
    monkeypatch.setattr(patience, "_PATIENCE_S", -1)
    assert (await region.back_up()).status == FAILED


async def test_a_node_without_a_place_has_nothing_to_wait_for(region: Region) -> None:
    await region.keeper()._finish(BACKUP)
    assert region.catalog.backup(BACKUP.id).status == FAILED


async def test_what_a_deleted_backup_had_is_removed(region: Region, small: None) -> None:
    await region.put(*KEYS)
    done = await region.back_up()
    await region.objects.put("test/backups/another/manifest.json", b"{}")
    await region.catalog.put_backup(done.model_copy(update={"status": REMOVING}))
    assert await region.objects.list(NAMES.folder)
    keeper = region.keeper(region.objects)
    for _ in range(2):
        await keeper._remove(region.objects, done)
        assert await region.objects.list(NAMES.folder) == []
    await keeper._finish(region.catalog.backup(BACKUP.id))
    assert region.catalog.backups() == []
    assert len(await region.objects.list("test/backups")) == 1


async def test_what_a_killed_node_left_half_written_is_removed(region: Region, small: None) -> None:
    await region.put(*KEYS)
    folder, parts = (Path(region.objects.place, each) for each in (NAMES.folder, NAMES.parts))

    def leave() -> None:
        parts.mkdir(parents=True, exist_ok=True)
        (parts / "abc.json.gz#0").write_bytes(b"con")
        (folder / "manifest.json#0").write_bytes(b"con")

    leave()
    done = await region.back_up()
    assert done.status == AVAILABLE
    assert not list(folder.rglob("*#*"))
    assert region.lines()
    leave()
    await region.keeper(region.objects)._remove(region.objects, done)
    assert not [path for path in folder.rglob("*") if path.is_file()]


async def test_backups_of_a_lost_region_are_found(region: Region, small: None) -> None:
    await region.put(*KEYS)
    done = await region.back_up()
    region.catalog.known.clear()
    keeper = region.keeper(region.objects)
    keeper.start()
    await until(region.catalog.backups)
    await keeper.stop()
    assert region.catalog.backups() == [done]
    # Not one that is not whole, or that can't be understood.
    region.parts()[0].unlink()
    region.catalog.known.clear()
    await region.objects.put("test/backups/another/manifest.json", b"{}")
    await region.keeper(region.objects)._finish(None)
    assert region.catalog.backups() == []


async def test_a_manifest_of_a_newer_format_is_not_read(region: Region) -> None:
    await region.back_up()
    manifest = json.loads(await region.objects.get(NAMES.manifest))
    newer = json.dumps({**manifest, "format": FORMAT + 1, "new": 1})
    await region.objects.put(NAMES.manifest, newer.encode())
    with pytest.raises(DamagedBackup, match=f"has format {FORMAT + 1}"):
        await Manifest.read(region.objects, NAMES)
