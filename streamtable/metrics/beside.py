"""Processes that answer on one port: whoever is asked tells of all of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streamtable.metrics.families import Families

__all__ = ["Beside"]

AskOthers: TypeAlias = Callable[[str], Awaitable[list[Any]]]
"""Calls all other processes by the name of a call; None for each that does not answer."""

_LABEL = "worker"


class Beside:
    """What the pages of one process know of the others.

    Args:
        seat: this process's number.
        ask: asks the others.
        unowned: tells how many shards no process has.
    """

    def __init__(self, seat: int, ask: AskOthers, unowned: Callable[[], int]) -> None:
        self._seat = seat
        self._ask = ask
        self._unowned = unowned

    def own(self, page: str) -> list[Any]:
        """Return this process's metrics, in Prometheus' text format, as others read them."""
        return [self._seat, page]

    async def merged(self, page: str) -> CollectorRegistry:
        """Return this process's metrics and those of the others, each with its number as a label.

        Args:
            page: this process's, in Prometheus' text format.
        """
        found = [self.own(page), *filter(None, await self._ask("metrics"))]
        # A page of many shards is long; the loop has other things to do.
        return await asyncio.to_thread(_merge, found)

    async def problem(self) -> str | None:
        """Return why requests for shards of other processes are not answered, None if they are."""
        unowned = self._unowned()
        if unowned:
            return f"shards that no process has: {unowned}"
        if not all(await self._ask("ready")):
            return "another process does not serve its shards"
        return None


def _merge(pages: list[Any]) -> CollectorRegistry:
    merged: dict[str, Metric] = {}
    for seat, page in sorted(pages):
        for family in text_string_to_metric_families(page):
            known = merged.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            known.samples += [
                sample._replace(labels={**sample.labels, _LABEL: str(seat)})
                for sample in family.samples
            ]
    registry = CollectorRegistry()
    registry.register(Families(merged.values()))
    return registry
