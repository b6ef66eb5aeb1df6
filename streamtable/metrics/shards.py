"""What is read of a node's shards when somebody asks."""

from collections.abc import Callable, Collection, Iterator, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from streamtable.consumers.indexes.sender import IndexSender
from streamtable.consumers.tables.store import ShardStore
from streamtable.streams.shard import Shard

__all__ = ["ShardMetrics"]

Gauge = Callable[[int], float | None]


class ShardMetrics(Collector):
    """The shards' metrics.

    Args:
        assigned: tells which shards are this node's.
        shards: those that it has, by number, also replicas.
        stores: their stores.
        replica_lags: tells by shard how many records this node's replica of it lacks.
        sender: sends index rows.
        checkpointed_ms: tells when a shard's newest checkpoint was taken, None where there is none.
        now_ms: the time, milliseconds since 1970.
    """

    def __init__(
        self,
        *,
        assigned: Callable[[], Collection[int]],
        shards: Mapping[int, Shard],
        stores: Mapping[int, ShardStore],
        replica_lags: Callable[[], Mapping[int, int]],
        sender: IndexSender,
        checkpointed_ms: Callable[[int], int | None],
        now_ms: Callable[[], int],
    ) -> None:
        self._assigned = assigned
        self._replica_lags = replica_lags
        self._shards = shards
        self._stores = stores
        self._sender = sender
        self._checkpointed_ms = checkpointed_ms
        self._now_ms = now_ms

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics as they are now."""
        for name, told, read in (
            ("serving", "Whether this node serves the shard", self._serving),
            ("log_offset", "Offset of the last record known to be in the log", self._last),
            ("applied_offset", "Offset of the last record in the tables", self._applied),
            ("lag_records", "Records in the log that the tables lack", self._lag),
            ("barrier_offset", "Offset of the barrier that began the epoch", self._barrier),
            ("overlay_bytes", "Size of what is written and not in the tables", self._overlay),
            ("prepared_transactions", "Transactions waiting for their decision", self._prepared),
            ("index_lag_records", "Records whose index rows are not in place", self._index_lag),
            ("checkpoint_age_seconds", "Age of the newest checkpoint", self._checkpoint_age),
        ):
            family = GaugeMetricFamily(f"streamtable_shard_{name}", told, labels=["shard"])
            for number in sorted(self._assigned()):
                # One that is being opened does not serve; nothing else is known of it.
                value: float | None = 0 if name == "serving" else None
                if number in self._shards:
                    value = read(number)
                if value is not None:
                    family.add_metric([str(number)], value)
            yield family
        replicas = GaugeMetricFamily(
            "streamtable_replica_lag_records",
            "Records in the logs that the replica of another node's shard lacks here",
            labels=["shard"],
        )
        for number, lag in sorted(self._replica_lags().items()):
            replicas.add_metric([str(number)], lag)
        yield replicas

    def _serving(self, number: int) -> float:
        return self._shards[number].owner.serving

    def _last(self, number: int) -> float:
        return self._shards[number].owner.last

    def _applied(self, number: int) -> float:
        return self._stores[number].applied

    def _lag(self, number: int) -> float:
        return max(0, self._shards[number].owner.last - self._stores[number].applied)

    def _barrier(self, number: int) -> float | None:
        store = self._stores[number]
        found = store.epoch_before(store.applied + 1)
        return None if found is None else found[1]

    def _overlay(self, number: int) -> float:
        return self._shards[number].owner.overlay.size_bytes

    def _prepared(self, number: int) -> float:
        return len(self._shards[number].ledger.prepared)

    def _index_lag(self, number: int) -> float:
        through = self._sender.sent(number)
        if through < 0:
            return 0  # nothing has come since the start
        for target, position in self._sender.positions(number).items():
            if target not in self._stores:
                continue  # another node knows
            there = self._stores[target].indexed_position(number)
            if there < position:
                through = min(through, there[0])
        return max(0, self._shards[number].owner.last - through)

    def _checkpoint_age(self, number: int) -> float | None:
        taken_ms = self._checkpointed_ms(number)
        return None if taken_ms is None else (self._now_ms() - taken_ms) / 1000
