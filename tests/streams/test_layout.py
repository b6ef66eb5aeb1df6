"""Who waits for more shards is told, also when they were there before it began to wait."""

import asyncio

from streamtable.core.layouts import LayoutDocument
from streamtable.streams.layout import Layout


async def test_growth_is_told_also_to_who_comes_late() -> None:
    layout = Layout(2)
    early = asyncio.create_task(layout.grown(layout.count))
    late = layout.grown(layout.count)
    await asyncio.sleep(0)
    layout.take(LayoutDocument(count=2, failed="it was given up"))
    await asyncio.sleep(0)
    assert not early.done()
    layout.take(LayoutDocument(count=4))
    async with asyncio.timeout(10):
        await early
        await late
