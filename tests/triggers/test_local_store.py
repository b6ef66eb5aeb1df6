"""What a trigger keeps in a local store takes effect once."""

import random
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamtable import Change, LocalStore
from streamtable.core.positions import Position
from streamtable.triggers import StoreInUse

DAY_MS = 24 * 60 * 60 * 1000


def change(offset: int, index: int = 0, shard: int = 0, version: str = "1@local") -> Change[Any]:
    return Change(
        old=None,
        new={"id": "u1", "total": Decimal(offset)},
        keys={"id": "u1"},
        event_name="INSERT",
        table="orders",
        position=Position(shard, offset, index),
        version=version,
        request_id="REQUEST",
        principal="someone",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def add(store: LocalStore, made: Change[Any]) -> bool:
    with store.batch(made) as batch:
        if batch.is_new:
            batch.put("total", batch.get("total", 0) + made.position.offset)
        return batch.is_new


def test_a_repetition_is_told(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        assert add(store, change(5))
        assert not add(store, change(5))
        assert add(store, change(5, index=1))
        assert add(store, change(5, shard=1))
        assert store.get("total") == 15


def test_it_is_told_after_a_restart(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        add(store, change(5))
    with LocalStore(tmp_path) as store:
        assert not add(store, change(5))
        assert store.get("total") == 5


def test_the_order_does_not_matter(tmp_path: Path) -> None:
    seeded = random.Random(7)
    offsets = list(range(200))
    coming = offsets * 3
    seeded.shuffle(coming)
    with LocalStore(tmp_path, sync=False) as store:
        assert sum(add(store, change(offset)) for offset in coming) == len(offsets)
        assert store.get("total") == sum(offsets)


def test_another_change_at_the_same_position_is_new(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        add(store, change(5))
        assert add(store, change(5, version="2@local"))


def test_what_raises_leaves_nothing(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        with pytest.raises(TypeError), store.batch(change(5)) as batch:
            batch.put("total", object())
        assert store.get("total") is None
        assert add(store, change(5))


def test_values_come_back(tmp_path: Path) -> None:
    values = {"n": Decimal("1.5"), "s": "x", "l": [Decimal(1), None], "m": {"b": b"x"}, "t": True}
    with LocalStore(tmp_path) as store:
        with store.batch(change(1)) as batch:
            for name, value in values.items():
                batch.put(f"key/{name}", value)
            batch.put("other", {"a", "b"})
            batch.put("gone", 1)
            batch.delete("gone")
            assert batch.get("gone", 7) == 7
            assert batch.get("other") == {"a", "b"}
        assert dict(store.items("key/")) == {f"key/{name}": each for name, each in values.items()}
        assert [key for key, _ in store.items()] == [*sorted(f"key/{n}" for n in values), "other"]
        assert store.get("gone", 7) == 7
        with store.batch(change(2)) as batch:
            batch.delete("other")
        assert store.get("other") is None


def test_a_repetition_can_put_nothing(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        add(store, change(5))
        with (
            pytest.raises(RuntimeError, match=r"ask batch\.is_new first"),
            store.batch(change(5)) as batch,
        ):
            batch.put("total", 1)


def test_two_batches_at_once_are_refused(tmp_path: Path) -> None:
    with LocalStore(tmp_path) as store:
        with (
            store.batch(change(5)),
            pytest.raises(RuntimeError, match="don't await in it"),
            store.batch(change(6)),
        ):
            pass
        assert add(store, change(6))


def test_several_threads(tmp_path: Path) -> None:
    with LocalStore(tmp_path, sync=False) as store:

        def run() -> None:
            for offset in range(100):
                add(store, change(offset))

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.get("total") == sum(range(100))


def test_positions_are_forgotten_when_the_log_has_them_no_more(tmp_path: Path) -> None:
    now = [DAY_MS * 20_000]
    with LocalStore(tmp_path, sync=False, now_ms=lambda: now[0]) as store:
        for shard in range(2):
            for offset in range(999):
                add(store, change(offset, shard=shard))
        now[0] += DAY_MS
        add(store, change(5000))
        assert _positions(store) == 2 * 999 + 1
        now[0] += DAY_MS
        for offset in range(6000, 7001):
            add(store, change(offset, shard=1))
        assert _positions(store) == 1 + 1001
        assert not add(store, change(7000, shard=1))


def _positions(store: LocalStore) -> int:
    keys: Any = store._db.keys()
    return sum(1 for key in keys if key.startswith(b"d"))


@pytest.mark.faults
def test_killed_at_any_time_each_change_counts_once(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[2])
        from streamtable import LocalStore
        from test_local_store import add, change
        with LocalStore(sys.argv[1]) as store:
            for offset in range(1, 100_000):
                add(store, change(offset))
                print(offset, flush=True)
        """
    )
    here = str(Path(__file__).parent)
    seeded = random.Random(11)
    last = 0
    for _ in range(5):
        command = [sys.executable, "-c", program, str(tmp_path / "store"), here]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(seeded.randint(1, 200)):
                last = max(last, int(process.stdout.readline()))
            process.kill()
        with LocalStore(tmp_path / "store") as store:
            total = store.get("total")
            # 1 + 2 + ... + n of some n that is no less than what was told.
            done = int((Decimal(8) * total + 1).sqrt() - 1) // 2
            assert total == done * (done + 1) // 2
            assert done >= last


def test_a_store_is_open_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with pytest.raises(StoreInUse, match="is open already, in this process or in another one"):
        LocalStore(tmp_path / "store")
    store.close()
    LocalStore(tmp_path / "store").close()


def test_what_is_no_folder_can_not_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="can't be opened"):
        LocalStore(tmp_path / "file")
