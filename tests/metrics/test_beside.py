"""Pages of processes that answer on one port."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamtable.metrics.beside import Beside
from streamtable.metrics.meters import Meters
from streamtable.metrics.pages import NodePages


class Process:
    """One of three processes; it finds the others in `processes`."""

    def __init__(self, seat: int, processes: "list[Process]") -> None:
        self.processes = processes
        self.meters = Meters()
        self.there = True
        self.unowned = 0
        self.waiting: list[int] = []
        self.pages = NodePages(
            info={"node": f"node-{seat}"},
            collectors=[self.meters.registry],
            in_flight=lambda: seat,
            consumers=self._consumers,
            failed=lambda: False,
            waiting=lambda: self.waiting,
            leaving=lambda: False,
            beside=Beside(seat, self._ask, lambda: self.unowned),
        )

    async def _consumers(self) -> list[dict[str, Any]]:
        return []

    async def _ask(self, method: str) -> list[Any]:
        return [
            await each.pages.calls[method](None) if each.there else None
            for each in self.processes
            if each is not self
        ]

    async def get(self, path: str) -> Any:
        return await self.pages.pages[path]({})


@pytest.fixture
def processes() -> list[Process]:
    made: list[Process] = []
    made += [Process(seat, made) for seat in range(3)]
    return made


async def test_metrics_are_those_of_all_processes(processes: list[Process]) -> None:
    for process, times in zip(processes, (1, 2, 3), strict=True):
        for _ in range(times):
            process.meters.request("GetItem", 200, 0.004)
    processes[2].there = False
    text = (await processes[1].get("/metrics")).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counts = {
        each.labels["worker"]: each.value
        for each in families["streamtable_request_seconds"].samples
        if each.name.endswith("_count")
    }
    assert counts == {"0": 1, "1": 2}
    in_flight = families["streamtable_requests_in_flight"].samples
    assert {each.labels["worker"]: each.value for each in in_flight} == {"0": 0, "1": 1}
    # What is known of consumers is the same for all, and told once.
    assert [each.labels for each in families["streamtable_consumers_known"].samples] == [
        {"worker": "1"}
    ]
    # Each metric is there once, whoever has it.
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert "# TYPE process_cpu_seconds_total counter" in types


async def test_ready_when_all_processes_are(processes: list[Process]) -> None:
    first, second, third = processes
    assert (await first.get("/readyz")).status == 200
    second.waiting = [4]
    assert (await first.get("/readyz")).body == b"another process does not serve its shards\n"
    assert (await second.get("/readyz")).body == b"shards that do not serve: 4\n"
    second.waiting = []
    third.there = False
    assert (await first.get("/readyz")).status == 503
    third.there = True
    first.unowned = 2
    assert (await first.get("/readyz")).body == b"shards that no process has: 2\n"
    first.unowned = 0
    assert (await first.get("/readyz")).status == 200
