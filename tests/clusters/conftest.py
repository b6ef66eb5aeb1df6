"""What the tests of clusters share: a Kafka of three brokers, three nodes on it, and proxies."""

from collections.abc import Generator, Iterator

import pytest

from tests.clusters.region import Region
from tests.faults.conftest import chance
from tests.support import toxiproxy
from tests.support.apache_kafka import running_cluster
from tests.support.linearizable import built_checker
from tests.support.ports import free_ports
from tests.support.toxiproxy import Toxiproxy

__all__ = ["chance"]

_SAID = 1500


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the nodes said last with a test that fails."""
    report = yield
    region = item.funcargs.get("region")
    if report.failed and isinstance(region, Region):
        for number, node in enumerate(region.nodes):
            report.sections.append((f"the end of what node {number} said", node.output()[-_SAID:]))
    return report


@pytest.fixture(scope="session")
def checker() -> str:
    """The program that says which histories no order of the operations explains."""
    return built_checker()


@pytest.fixture(scope="session")
def proxy() -> Iterator[Toxiproxy]:
    yield from toxiproxy.running()


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, proxy: Toxiproxy) -> Iterator[Region]:
    """Three nodes on three brokers; the last node reaches brokers and nodes by proxies."""
    folder = tmp_path_factory.mktemp("region")
    ports = free_ports(3)
    for kafka in running_cluster(folder / "kafka", ports):
        names = [
            proxy.forward(f"127.0.0.1:{port}", broker.proxied)
            for port, broker in zip(ports, kafka.brokers, strict=True)
        ]
        made = Region(folder, kafka, proxy, ports, names)
        try:
            made.start()
            yield made
        finally:
            made.kill()
