"""`/metrics`, `/healthz` and `/readyz`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from streamtable.core.errors import ApiError, StreamtableError
from streamtable.gateway import Content, Page
from streamtable.metrics.beside import Beside
from streamtable.metrics.consumers import consumer_families
from streamtable.metrics.families import Families

__all__ = ["NodePages"]

logger = logging.getLogger(__name__)

_CONSUMERS_S: Final = 5.0

Described = Sequence[Mapping[str, Any]]


class NodePages:
    """The pages for monitoring and for load balancers.

    Args:
        info: what names this node: region, version and the like.
        collectors: have the metrics that are there at once.
        in_flight: tells how many requests are being worked on.
        consumers: tells where the consumers stand; it asks the brokers.
        failed: tells whether the node can't go on.
        waiting: tells which of this node's shards do not serve.
        leaving: tells whether the node hands its shards over, and is about to stop.
        beside: the other processes that answer on the same port; None where there are none.
    """

    def __init__(
        self,
        *,
        info: Mapping[str, str],
        collectors: Iterable[Collector],
        in_flight: Callable[[], int],
        consumers: Callable[[], Awaitable[Described]],
        failed: Callable[[], bool],
        waiting: Callable[[], Sequence[int]],
        leaving: Callable[[], bool],
        beside: Beside | None = None,
    ) -> None:
        self._info = dict(info)
        self._collectors = (*collectors, ProcessCollector(registry=None))
        self._in_flight = in_flight
        self._consumers = consumers
        self._failed = failed
        self._waiting = waiting
        self._leaving = leaving
        self._beside = beside

    @property
    def pages(self) -> dict[str, Page]:
        """What GET answers, by path."""
        return {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._readiness}

    @property
    def calls(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """What the processes beside this one call, by name."""
        return {"metrics": self._tell_metrics, "ready": self._tell_ready}

    async def _health(self, _query: Mapping[str, str]) -> Content:
        """Answer at all: the process lives, and wants to go on."""
        return Content(b"failed\n", status=503) if self._failed() else Content(b"ok\n")

    async def _readiness(self, _query: Mapping[str, str]) -> Content:
        """Say whether requests for this node's shards are answered."""
        if self._leaving():
            return Content(b"leaving\n", status=503)
        if self._failed():
            return Content(b"failed\n", status=503)
        waiting = self._waiting()
        if waiting:
            names = ", ".join(str(number) for number in waiting)
            return Content(f"shards that do not serve: {names}\n".encode(), status=503)
        problem = None if self._beside is None else await self._beside.problem()
        if problem is not None:
            return Content(f"{problem}\n".encode(), status=503)
        return Content(b"ready\n")

    async def _tell_ready(self, _arguments: Any) -> bool:
        return not (self._waiting() or self._failed() or self._leaving())

    async def _tell_metrics(self, _arguments: Any) -> Any:
        assert self._beside is not None
        return self._beside.own(generate_latest(self._registry(self._own_families())).decode())

    async def _metrics(self, _query: Mapping[str, str]) -> Content:
        described: Described | None
        try:
            async with asyncio.timeout(_CONSUMERS_S):
                described = await self._consumers()
        except (ApiError, StreamtableError, OSError) as error:
            logger.info("metrics without those of the consumers: %s", error)
            described = None
        registry = self._registry([*self._own_families(), *_consumers(described)])
        if self._beside is not None:
            registry = await self._beside.merged(generate_latest(registry).decode())
        return Content(generate_latest(registry), CONTENT_TYPE_LATEST.encode())

    def _registry(self, families: Iterable[Metric]) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(Families(families))
        for collector in self._collectors:
            registry.register(collector)
        return registry

    def _own_families(self) -> Iterator[Metric]:
        yield InfoMetricFamily("streamtable_node", "Which node this is", value=self._info)
        yield GaugeMetricFamily(
            "streamtable_requests_in_flight",
            "Requests that are being worked on",
            value=self._in_flight(),
        )


def _consumers(described: Described | None) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "streamtable_consumers_known",
        "Whether the page has the consumers' metrics: the brokers answered",
        value=described is not None,
    )
    if described is not None:
        yield from consumer_families(described)
