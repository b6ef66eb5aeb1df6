import pytest

from streamtable.control.bodies import Report
from streamtable.control.overview import Overview
from streamtable.control.workers import Workers
from streamtable.core.consumers import ConsumerDocument
from streamtable.streams.fetcher import Fetched, LogTrimmed
from streamtable.streams.layout import Layout
from streamtable.streams.records import COMMIT, LogRecord

NOW_S = 1000.0


class Log:
    """Two shards with the offsets 10 to 19; offset n was written n seconds after the epoch."""

    async def bounds(self, shard):
        return 10, 20

    async def offset_at(self, shard, timestamp_ms):
        raise NotImplementedError

    async def fetch(self, shard, offset, max_bytes):
        if offset < 10:
            raise LogTrimmed("gone")
        record = LogRecord(shard, offset, offset * 1000, COMMIT, "e", frozenset(), b"")
        return Fetched([record], offset + 1, 1)


class Situation:
    def __init__(self):
        self.workers = Workers(lambda: 0.0)
        self.committed = {}
        self.parked = {}
        self.overview = Overview(
            Log(),
            Layout(2),
            workers=self.workers,
            committed=self._committed,
            parked=self._parked,
            now=lambda: NOW_S,
        )

    async def _committed(self, consumer):
        return self.committed

    async def _parked(self, consumer):
        return self.parked

    def report(self, worker="w1", **given):
        consumers = {"welcome": {"generation": 1, **given}}
        report = {"worker": worker, "app": "shop", "consumers": consumers}
        self.workers.note(Report.model_validate(report))

    async def describe(self, **given):
        document = ConsumerDocument(
            kind="trigger",
            app="shop",
            name="welcome",
            id="1",
            sources=("users",),
            start={0: 10, 1: 15},
            start_text="TRIM_HORIZON",
            created=1.0,
            **given,
        )
        [found] = await self.overview.describe([document])
        return found


@pytest.fixture
def situation():
    return Situation()


async def test_without_a_worker_its_place_is_what_is_committed_or_where_it_begins(situation):
    situation.committed = {0: 18}
    situation.parked = {0: 3}
    found = await situation.describe()
    assert (found["state"], found["workers"], found["parked"]) == ("no worker", [], 3)
    assert found["shards"]["0"]["next"] == 18
    assert found["shards"]["1"]["next"] == 15
    assert (found["lag"], found["lag_s"]) == (7, NOW_S - 15)


async def test_at_the_end_of_the_log_it_is_not_behind(situation):
    situation.committed = {0: 20, 1: 20}
    found = await situation.describe()
    assert (found["lag"], found["lag_s"]) == (0, 0.0)


async def test_workers_know_better_each_for_its_shards(situation):
    situation.committed = {0: 10, 1: 10}
    hand = {"in_flight": 2, "retrying": 1, "parked": 4}
    situation.report("w1", next={0: 19}, shards={0: hand})
    situation.report("w2", next={1: 20}, shards={1: {"in_flight": 1}}, failing=[{"attempts": 2}])
    found = await situation.describe()
    assert (found["state"], found["workers"]) == ("running", ["w1", "w2"])
    assert (found["in_flight"], found["retrying"], found["parked"]) == (3, 1, 4)
    assert (found["lag"], found["lag_s"]) == (1, NOW_S - 19)
    assert found["failing"] == [{"attempts": 2}]


async def test_what_is_gone_from_the_log_before_it_was_seen_is_told(situation):
    situation.committed = {0: 4, 1: 20}
    found = await situation.describe()
    assert found["shards"]["0"]["lost"] == 6
    assert found["lag"] == 10


async def test_reports_on_another_generation_do_not_count(situation):
    situation.report(next={0: 19, 1: 19})
    found = await situation.describe(generation=2)
    assert found["state"] == "no worker"
    assert found["shards"]["0"]["next"] == 10


@pytest.mark.parametrize(
    ("states", "paused", "state"),
    [
        (["running"], True, "pausing"),
        (["paused", "paused"], True, "paused"),
        ([], True, "paused"),
        (["stopped", "running"], False, "running"),
        (["stopped"], False, "stopped"),
        (["building", "running"], False, "building"),
        (["waiting"], False, "waiting"),
    ],
)
async def test_its_state(situation, states, paused, state):
    for number, each in enumerate(states):
        situation.report(f"w{number}", state=each)
    assert (await situation.describe(paused=paused))["state"] == state


async def test_its_error_and_how_far_it_has_been_built(situation):
    progress = {"done": 5, "total": 9, "error": "no Elasticsearch"}
    situation.report("w1", state="building", progress=progress)
    found = await situation.describe()
    assert found["progress"] == progress
    assert found["error"] == "no Elasticsearch"
    situation.report("w1", state="stopped", error="LostRecords: gone")
    assert (await situation.describe())["error"] == "LostRecords: gone"


async def test_one_that_has_not_begun(situation):
    found = await situation.describe(generation=0)
    assert (found["shards"], found["lag"]) == ({}, 0)
