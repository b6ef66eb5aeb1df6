from typing import Any

from prometheus_client import CollectorRegistry

from streamtable.metrics.shards import ShardMetrics
from tests.streams.shards import CONTEXT, MemoryLog, PutWrite, follow, make_shard


class Sender:
    """Has sent what a test says."""

    def __init__(self) -> None:
        self.through = -1
        self.places: dict[int, tuple[int, int]] = {}

    def sent(self, _shard: int) -> int:
        return self.through

    def positions(self, _shard: int) -> dict[int, tuple[int, int]]:
        return self.places


def metrics(shard: Any, sender: Any, taken_ms: int | None = None) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(
        ShardMetrics(
            assigned=lambda: (0, 1),
            shards={0: shard},
            stores={0: shard.state},
            replica_lags=dict,
            sender=sender,
            checkpointed_ms=lambda _number: taken_ms,
            now_ms=lambda: 90_000,
        )
    )
    return registry


def value(registry: CollectorRegistry, name: str) -> float | None:
    return registry.get_sample_value(f"streamtable_shard_{name}", {"shard": "0"})


async def test_where_a_shard_stands(tmp_path):
    log = MemoryLog()
    shard = make_shard(tmp_path, log)
    found = metrics(shard, Sender())
    assert value(found, "serving") == 0
    assert value(found, "barrier_offset") is None
    await shard.take_over()
    await follow(shard, log)
    for number in range(3):
        await shard.write(PutWrite("a", number), CONTEXT)
    assert value(found, "serving") == 1
    assert value(found, "log_offset") == 3
    assert value(found, "applied_offset") == 0
    assert value(found, "lag_records") == 3
    assert value(found, "barrier_offset") == 0
    assert value(found, "overlay_bytes") > 0  # type: ignore[operator]
    assert value(found, "checkpoint_age_seconds") is None
    await follow(shard, log)
    assert value(found, "lag_records") == 0
    assert value(found, "overlay_bytes") == 0
    assert value(metrics(shard, Sender(), 60_000), "checkpoint_age_seconds") == 30
    await shard.take_over()
    assert value(found, "barrier_offset") == 4


async def test_how_far_indexes_are_behind(tmp_path):
    log, sender = MemoryLog(), Sender()
    shard = make_shard(tmp_path, log)
    await shard.take_over()
    for number in range(5):
        await shard.write(PutWrite("a", number), CONTEXT)
    found = metrics(shard, sender)
    assert value(found, "index_lag_records") == 0
    sender.through = 3
    assert value(found, "index_lag_records") == 2
    # What was sent is not in place yet.
    sender.places = {0: (3, 0)}
    shard.state.apply_index([(0, [((1, 0), [])])], 1)  # type: ignore[attr-defined]
    assert value(found, "index_lag_records") == 4
    shard.state.apply_index([(0, [((3, 0), [])])], 2)  # type: ignore[attr-defined]
    assert value(found, "index_lag_records") == 2


async def test_a_shard_counts_its_commits(tmp_path):
    counted: list[tuple[int, float]] = []
    shard = make_shard(tmp_path, MemoryLog())
    shard.owner.measure = lambda changes, seconds: counted.append((changes, seconds))
    await shard.take_over()
    await shard.write(PutWrite("a", 1), CONTEXT)
    [(changes, seconds)] = counted
    assert changes == 1
    assert seconds > 0
