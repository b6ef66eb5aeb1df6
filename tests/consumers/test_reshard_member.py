"""What a node does for one attempt to change the number of shards, while there are others."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamtable.consumers.reshard.member import ReshardMember
from streamtable.core.errors import ServiceUnavailable
from streamtable.core.layouts import LayoutDocument, Reshard
from streamtable.streams.epochs import SPLIT
from streamtable.streams.gate import Gate
from streamtable.streams.layout import Layout
from tests.streams.shards import CONTEXT, MemoryLog, PutWrite, follow, make_shard, until


def swapping(attempt: str) -> LayoutDocument:
    reshard = Reshard(id=attempt, target=2, phase="swapping", since=1.0)
    return LayoutDocument(count=1, reshard=reshard)


async def copy() -> None:
    pass


async def test_an_attempt_that_is_over_leaves_no_record_behind_that_of_the_next(
    tmp_path: Path,
) -> None:
    log = MemoryLog()
    shard = make_shard(tmp_path, log)
    await shard.take_over()
    layout = Layout(1)
    parts: Any = {
        "catalog": SimpleNamespace(layout=layout, next=5),
        "copies": SimpleNamespace(),
        "cleaner": SimpleNamespace(),
        "agents": SimpleNamespace(copy=copy),
    }
    member = ReshardMember(
        gate=Gate(),
        held={0: shard},  # type: ignore[arg-type]
        stores={},
        checkpointer=lambda: None,
        grown=lambda _count: None,
        all_held=True,
        **parts,
    )
    member.start()
    split = member.calls["reshard_split"]
    log.gate.clear()
    writing = asyncio.create_task(shard.write(PutWrite("a", 1), CONTEXT))
    await until(lambda: shard.owner._appending is not None)
    layout.take(swapping("one"))
    first = asyncio.ensure_future(split("one"))
    await until(lambda: shard.owner.held)
    layout.take(LayoutDocument(count=1))
    assert not shard.owner.held
    layout.take(swapping("two"))
    second = asyncio.ensure_future(split("two"))
    await until(lambda: shard.owner.held)
    log.gate.set()
    await writing
    with pytest.raises(ServiceUnavailable, match="is over"):
        await first
    await until(lambda: log.records[-1].kind == SPLIT)
    await follow(shard, log)
    assert await second == [(0, 2)]
    assert shard.state.split is not None
    assert (shard.state.split.offset, shard.state.split.attempt) == (2, "two")
    assert [record.kind for record in log.records] == ["barrier", "commit", SPLIT]
    await member.stop()
