"""Work that one node does for all: begun, tried again, left to others."""

import pytest

from streamtable.consumers import leading
from streamtable.consumers.leading import Leading
from streamtable.core.errors import ServiceUnavailable
from tests.streams.shards import until


class Work(Leading[int]):
    """Numbers to be counted down; `errors` are raised first."""

    def __init__(self, *errors: Exception, leads: bool = True) -> None:
        super().__init__(lambda shard: self.leads and shard == 0)
        self.leads = leads
        self.left = {"a": 2, "b": 1}
        self.errors = list(errors)

    def _unfinished(self) -> dict[str, int]:
        return {name: count for name, count in self.left.items() if count}

    async def _finish(self, work: int) -> None:
        if self.errors:
            raise self.errors.pop()
        name = next(each for each, count in self.left.items() if count == work)
        self.left[name] -= 1


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "_RETRY_S", 0)


async def test_all_is_done_whatever_goes_wrong() -> None:
    work = Work(ServiceUnavailable("away"), RuntimeError("unexpected"))
    work.start()
    await until(lambda: not work._unfinished())
    assert work.errors == []
    # What comes later is done when somebody says so.
    work.left["c"] = 1
    work.look(1)
    work.look(0)
    await until(lambda: not work._unfinished())
    await work.stop()


async def test_another_node_does_it() -> None:
    work = Work(leads=False)
    work.start()
    await until(lambda: not work._wake.is_set())
    assert work._attending == {}
    work.leads = True
    work.look(0)
    await until(lambda: not work._unfinished())
    await work.stop()
