"""Rows of a view that come while the number of shards changes."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streamtable.control.ingest import Ingest
from streamtable.core.documents import ViewDocument
from streamtable.core.layouts import LayoutDocument
from streamtable.core.tables import Table
from streamtable.streams.held import HeldShards
from streamtable.streams.layout import Layout
from streamtable.streams.placement import Placement
from streamtable.streams.routes import Routes
from tests.streams.shards import TABLE, MemoryLog, PutWrite, make_shard


async def test_a_batch_that_waits_meanwhile_is_to_be_made_for_the_new_number(
    tmp_path: Path,
) -> None:
    made_by = ViewDocument(app="a", name="users", kind="view", sources=("b",), generation=1)
    view = Table(TABLE.document.model_copy(update={"view": made_by}))
    catalog: Any = SimpleNamespace(by_id={view.id: view}.get)
    layout = Layout(1)
    held = HeldShards(layout)
    shard = make_shard(tmp_path, MemoryLog(), table=view)
    held.add(shard)
    await shard.take_over()
    calls: dict[str, Any] = {}
    client: Any = None
    routes = Routes(held, Placement("127.0.0.1:1"), client, calls, lambda: 0)
    ingest = Ingest(catalog, layout, {}, routes)
    calls |= ingest.calls
    moves = next(key for key in map(str, range(99)) if PutWrite(key, 1, table=view).hash % 2)
    batch = {
        "view": view.id,
        "source": 0,
        "target": 0,
        "shards": 1,
        "after": None,
        "through": [1, 0],
        "operations": [json.dumps({"put": {"id": {"S": moves}}})],
    }
    shard.owner.hold()
    asking = asyncio.create_task(ingest.ingest(batch))
    for _ in range(5):
        await asyncio.sleep(0)
    layout.take(LayoutDocument(count=2))
    shard.owner.release(split=True)
    assert await asking == {"applied": False, "shards": 2}
