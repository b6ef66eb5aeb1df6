"""Fixtures that need the whole product: a server in a process of its own, and clients for it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from hypothesis import HealthCheck, settings

from tests.support.apache_kafka import ApacheKafka
from tests.support.apache_kafka import running as running_kafka
from tests.support.elasticsearch import Elasticsearch
from tests.support.elasticsearch import running as running_elasticsearch
from tests.support.server import Server, client_settings

# Machines are shared, so no example of Hypothesis' has a deadline.
settings.register_profile(
    "streamtable", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("streamtable")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running node that all tests of the session share; tables have names of their own."""
    running = Server(tmp_path_factory.mktemp("server") / "data").start()
    yield running
    assert running.stop() == 0, running.output()


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A running Apache Kafka that all tests of the session share; topics have own names."""
    yield from running_kafka(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[Elasticsearch]:
    """A running Elasticsearch that all tests of the session share; indexes have own names."""
    yield from running_elasticsearch()


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest) -> str:
    """The URL that clients are pointed at: STREAMTABLE_TEST_ENDPOINT, or a node's own."""
    given = os.environ.get("STREAMTABLE_TEST_ENDPOINT")
    if given is not None:
        return given
    running: Server = request.getfixturevalue("server")
    return running.endpoint


@pytest.fixture(scope="session")
def client(endpoint: str) -> Iterator[Any]:
    """A boto3 client that does not retry."""
    made = boto3.client(**client_settings(endpoint))
    yield made
    made.close()


@pytest.fixture(scope="session")
def resource(endpoint: str) -> Iterator[Any]:
    """A boto3 resource that does not retry."""
    made = boto3.resource(**client_settings(endpoint))
    yield made
    made.meta.client.close()


@pytest.fixture
def table_name() -> str:
    """A name that no other test uses."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Server]:
    """A node of the test's own, not started yet, on a data folder of its own."""
    made = Server(tmp_path / "data")
    yield made
    if made.endpoint:
        made.stop()
