import asyncio
from types import SimpleNamespace
from typing import Any

from streamtable.core.images import Image
from streamtable.streams.commit import Commit
from streamtable.streams.overlay import IndexOverlay, Overlay

PREFIX = b"\x03" + bytes(16)
IMAGE = Image(b"{}", 2, 1, "local", {})


def row(name: bytes, image: Image | None = IMAGE) -> Any:
    return SimpleNamespace(row_key=PREFIX + bytes(8) + name, image=image)


def names(overlay: IndexOverlay, start: bytes, end: bytes) -> list[tuple[bytes, bool]]:
    return [(key[25:], image is not None) for key, image in overlay.between(start, end)]


def test_index_rows_are_shown_in_order_until_the_state_has_them() -> None:
    overlay = IndexOverlay()
    overlay.show(1, 10, row(b"b"))
    overlay.show(1, 11, row(b"a", None))
    overlay.show(2, 4, row(b"c"))
    whole = PREFIX, PREFIX + b"\xff"
    assert names(overlay, *whole) == [(b"a", False), (b"b", True), (b"c", True)]
    partition = PREFIX + bytes(8)
    assert names(overlay, partition + b"b", partition + b"c") == [(b"b", True)]
    overlay.applied(1, 10)
    assert names(overlay, *whole) == [(b"a", False), (b"c", True)]
    overlay.applied(1, 11)
    overlay.applied(2, 4)
    assert names(overlay, *whole) == []


def test_an_index_row_that_was_written_again_stays_until_the_state_has_the_newer_one() -> None:
    overlay = IndexOverlay()
    overlay.show(1, 10, row(b"a"))
    overlay.show(1, 12, row(b"a", None))
    overlay.applied(1, 11)
    assert names(overlay, PREFIX, PREFIX + b"\xff") == [(b"a", False)]


async def test_the_rows_of_a_partition_are_found_as_they_come_and_go() -> None:
    overlay = Overlay()
    partition = PREFIX + bytes(8)
    for name in (b"b", b"a", b"c"):
        overlay.open_slot(partition + name, IMAGE)
        overlay.open_slot(partition + name, IMAGE)  # as after a term that has ended
    overlay.open_slot(PREFIX + b"another1" + b"b", IMAGE)
    assert [key for key, _ in overlay.between(partition, partition + b"c")] == [
        partition + b"a",
        partition + b"b",
    ]
    for left in ([b"b", b"c"], [b"c"], []):
        key = partition + b"cba"[len(left) :][:1]
        slot = overlay.slot(key)
        assert slot is not None
        commit = Commit(asyncio.get_running_loop())
        commit.lay(key, slot, IMAGE)
        commit.lay(key, slot, IMAGE)
        overlay.made_durable(1, commit)
        overlay.applied(1)
        found = overlay.between(partition, partition + b"\xff")
        assert [key for key, _ in found] == [partition + name for name in left]
    assert len(overlay) == 1
