"""Who leads a growth of the number of shards goes on only when nothing can be lost by it."""

from typing import Any

from streamtable.consumers.reshard.driver import ReshardDriver
from streamtable.core.errors import ServiceUnavailable
from streamtable.core.layouts import LayoutDocument
from streamtable.streams.layout import Layout
from tests.support.waiting import until


class Region:
    """One node with two shards and copies for two more. Stands where catalog and nodes stand."""

    def __init__(self) -> None:
        self.layout = Layout(2)
        self.saved = False
        self.asked: list[str] = []
        self.grown: list[int] = []

    def tables(self) -> list[Any]:
        return []

    async def put_layout(self, document: LayoutDocument) -> None:
        self.layout.take(document)

    async def grow(self, _address: str, count: int) -> None:
        self.grown.append(count)

    async def ask_all(self, method: str, _arguments: Any) -> dict[str, Any]:
        self.asked.append(method)
        if method == "reshard_drained":
            raise ServiceUnavailable("so far and no further")
        copy = {"lag": 0, "split": None, "index_offset": 0, "error": None}
        return {
            "node": {
                "copies": {"2": copy, "3": copy},
                "saved": self.saved,
                "errors": [] if self.saved else ["no checkpoint: away"],
                "cleaning": 0,
                "shut": False,
                "paused_s": None,
            }
        }


async def test_there_is_no_swap_before_each_parent_has_a_checkpoint() -> None:
    region: Any = Region()
    driver = ReshardDriver(
        address="",
        topics=region,
        catalog=region,
        ask=region.ask_all,
        ask_all=region.ask_all,
        owner=lambda _shard: None,
        index_end=region.grow,
        leads=lambda _shard: True,
    )
    driver.start()
    await driver.ask_for(4)
    await until(lambda: region.asked.count("reshard_checkpoint") > 2, "it to ask for checkpoints")
    assert region.grown == [4]
    assert region.layout.document.reshard.phase == "copying"
    assert (await driver.status())["errors"] == ["no checkpoint: away"]
    assert "reshard_drained" not in region.asked
    region.saved = True
    await until(lambda: "reshard_drained" in region.asked, "the swap")
    await driver.stop()
