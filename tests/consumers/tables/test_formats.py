from pathlib import Path

import orjson
import pytest
from rocksdict import AccessType, Options, Rdict

from streamtable.consumers.tables.memory import StoreMemory
from streamtable.consumers.tables.store import ShardStore
from streamtable.core.formats import NewerFormat

MEMORY = StoreMemory(1024, 1024)


def note(path: Path, **more: int) -> None:
    """Have the folder say that it was written up to an offset, and of what format it is."""
    db = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_write())
    db[b"\x00applied"] = orjson.dumps({"offset": 7, "epoch": "e", "barrier": 0, **more})
    db.close()


def test_tables_of_a_newer_format_are_not_opened(tmp_path: Path) -> None:
    ShardStore(tmp_path, MEMORY, lambda _: None).close()
    note(tmp_path, format=2)
    with pytest.raises(NewerFormat, match=f"the tables in {tmp_path} has format 2"):
        ShardStore(tmp_path, MEMORY, lambda _: None)
    # It is left as it is, and free for the version that wrote it.
    note(tmp_path)
    store = ShardStore(tmp_path, MEMORY, lambda _: None)
    assert store.applied == 7
    store.close()
