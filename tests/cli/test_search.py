"""Search indexes from the command line: a file, a worker, a list, a rebuild, a redrive."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import BIN, Background, error_line, run
from tests.support.elasticsearch import Elasticsearch
from tests.support.server import Server
from tests.support.waiting import wait_until

MAPPING = '[search.{0}.mapping.properties]\nid = {{ type = "keyword" }}\nn = {{ type = "{1}" }}\n'


class Catalog:
    """An app in a file with one search index, and a worker that runs it."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str]) -> None:
        self.folder = folder
        self.file = folder / "catalog.toml"
        self.name = name
        self._environment = environment
        self._starts = 0

    def declare(self, kind: str) -> None:
        settings = f"[search.{self.name}.settings]\nnumber_of_replicas = 0\n"
        self.file.write_text(settings + MAPPING.format(self.name, kind))

    def start(self) -> Background:
        self._starts += 1
        return Background(
            [str(BIN / "streamtable"), "worker", str(self.file)],
            self.folder / f"worker-{self._starts}.log",
            env=self._environment,
        )


@pytest.fixture
def catalog(
    tmp_path: Path,
    server: Server,
    elasticsearch: Elasticsearch,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Catalog]:
    environment = {
        "STREAMTABLE_ENDPOINT": server.endpoint,
        "STREAMTABLE_ELASTICSEARCH": elasticsearch.url,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Catalog(tmp_path, table_name, {**environment, "PATH": str(BIN)})  # type: ignore[return-value]


def create(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )


def letters(name: str) -> Any:
    return json.loads(run("deadletters", "list", "--trigger", f"catalog/{name}", "--json")[1])


def listed(name: str) -> Any:
    (found,) = [
        each for each in json.loads(run("search", "list", "--json")[1]) if each["name"] == name
    ]
    return found


def test_from_a_file_to_a_rebuilt_index(
    catalog: Catalog, elasticsearch: Elasticsearch, client: Any, table_name: str
) -> None:
    create(client, table_name)
    for n in range(10):
        client.put_item(TableName=table_name, Item={"id": {"S": str(n)}, "n": {"N": str(n)}})
    catalog.declare("long")
    with catalog.start() as worker:
        wait_until(lambda: len(elasticsearch.documents(table_name)) == 10, "the rows")
        client.put_item(TableName=table_name, Item={"id": {"S": "odd"}, "n": {"S": "x"}})
        wait_until(lambda: letters(table_name), "the dead letter")
        (letter,) = letters(table_name)
        assert (letter["reason"], letter["keys"]) == ("rejected", {"id": {"S": "odd"}})
        assert letter["error"]["type"] == "document_parsing_exception"
        found = listed(table_name)
        assert (found["kind"], found["state"], found["error"]) == ("search", "running", None)
        assert f"catalog/{table_name}" in run("search", "list")[1]
        assert worker.stop() == 0, worker.text()
    wait_until(lambda: not listed(table_name)["workers"], "the worker to be gone")
    assert f"no worker runs catalog/{table_name}" in error_line("search", "rebuild", table_name)
    catalog.declare("keyword")
    with catalog.start() as worker:
        worker.wait_for("streamtable search rebuild")
        code, out, err = run("search", "rebuild", table_name, "--keep")
        assert (code, out) == (0, "")
        assert f"catalog/{table_name} is built anew" in err
        assert [*elasticsearch.call("GET", f"/{table_name}/_alias")] == [f"{table_name}-000002"]
        assert len(elasticsearch.documents(f"{table_name}-000001")) == 10
        assert elasticsearch.documents(table_name)["odd"] == {"id": "odd", "n": "x"}
        # The letter is of the same version; it is welcome now, and done with.
        code, _, err = run("deadletters", "redrive", "--trigger", f"catalog/{table_name}")
        assert code == 0, err
        wait_until(lambda: not letters(table_name), "the letter to be done with")
        assert worker.stop() == 0, worker.text()


def test_a_worker_needs_to_know_where_elasticsearch_is(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.declare("long")
    wrong = error_line("worker", str(catalog.file), "--elasticsearch", "localhost")
    assert "URL must include a 'scheme', 'host', and 'port'" in wrong
    monkeypatch.delenv("STREAMTABLE_ELASTICSEARCH")
    missing = error_line("worker", str(catalog.file))
    assert "--elasticsearch URL or STREAMTABLE_ELASTICSEARCH" in missing


def test_what_can_not_be_rebuilt(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMTABLE_ENDPOINT", server.endpoint)
    assert "there is no nothing-at-all" in error_line("search", "rebuild", "nothing-at-all")
