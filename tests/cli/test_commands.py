"""The commands as a user runs them: what they print, how they end."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import BIN, Background, error_line, run
from tests.support.ports import free_port
from tests.support.server import Server

ESCAPE = "\x1b"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def unused_port() -> int:
    return free_port()


class TestVersion:
    def test_version(self) -> None:
        code, out, err = run("version")
        assert (code, err) == (0, "")
        assert out.startswith("streamtable ")
        assert run("--version") == (0, out, "")

    def test_as_json(self) -> None:
        found = json.loads(run("version", "--json")[1])
        assert found["python"] == ".".join(map(str, sys.version_info[:3]))
        assert {"streamtable", "aiokafka", "faust-streaming"} <= set(found)

    def test_as_a_module(self) -> None:
        command = [sys.executable, "-m", "streamtable", "version"]
        assert subprocess.check_output(command, text=True) == run("version")[1]


class TestHelp:
    @pytest.mark.parametrize(
        "command", ["", "serve", "worker", "log", "log tail", "log stat", "version"]
    )
    def test_each_command_has_help_without_colours_when_piped(self, command: str) -> None:
        code, out, err = run(*command.split(), "--help")
        assert (code, err) == (0, "")
        assert "Usage: streamtable" in out
        assert ESCAPE not in out

    def test_a_command_that_is_none(self) -> None:
        code, _, err = run("sevre")
        assert code == 2
        assert "No such command 'sevre'" in err

    def test_a_lambda_functions_options_without_one(self) -> None:
        line = error_line("worker", "shop.py:app", "--batch-size", "7", "--filter", "/dev/null")
        assert "--batch-size, --filter: only with --handler" in line

    def test_a_filter_that_is_not_there(self) -> None:
        line = error_line("worker", "--handler", "a.b", "--table", "t", "--filter", "none.json")
        assert "--filter none.json: " in line
        assert "No such file" in line

    def test_completion(self) -> None:
        _, out, _ = run(
            _STREAMTABLE_COMPLETE="complete_bash", COMP_WORDS="streamtable ", COMP_CWORD="1"
        )
        assert {"serve", "worker", "version", "log", "triggers", "checkpoints"} <= set(out.split())


class TestServe:
    def test_a_port_that_is_taken(self, tmp_path: Path, taken_port: int) -> None:
        line = error_line(
            *["serve", "--data", str(tmp_path / "data"), "--broker-port", "0"],
            *["--log-level", "warning", "--port", str(taken_port)],
        )
        assert f"port {taken_port} of 127.0.0.1 is taken by another process" in line

    def test_a_brokers_port_that_is_taken(self, tmp_path: Path, taken_port: int) -> None:
        line = error_line(
            *["serve", "--data", str(tmp_path / "data"), "--port", "0"],
            *["--broker-port", str(taken_port)],
        )
        assert f"127.0.0.1:{taken_port} is taken by another process" in line

    def test_a_data_folder_that_is_in_use(self, server: Server) -> None:
        line = error_line("serve", "--data", str(server.data), "--port", "0", "--broker-port", "0")
        assert f"{server.data} is in use by another process" in line

    def test_a_data_folder_that_can_not_be_made(self) -> None:
        assert "/proc/x" in error_line("serve", "--data", "/proc/x", "--port", "0")

    def test_a_wrong_kafka_address(self, tmp_path: Path, unused_port: int) -> None:
        address = f"127.0.0.1:{unused_port}"
        line = error_line(
            "serve", "--data", str(tmp_path / "data"), "--port", "0", "--kafka", address
        )
        assert f"no Kafka broker answers at {address}: Connection refused. Without --kafka" in line

    def test_a_regions_name_that_is_none(self) -> None:
        assert "--region Europe" in error_line("serve", "--region", "Europe")

    def test_the_ready_line_has_commands_that_work(self, server: Server) -> None:
        said = server.output()
        assert f"is ready: {server.endpoint}" in said
        assert f"aws dynamodb create-table --endpoint-url {server.endpoint}" in said
        assert "AWS_ACCESS_KEY_ID=" in said
        assert ESCAPE not in said

    def test_it_says_what_is_not_protected(self, tmp_path: Path, unused_port: int) -> None:
        command = [
            *[str(BIN / "streamtable"), "serve", "--host", "0.0.0.0"],
            *["--port", str(unused_port), "--broker-port", "0"],
            *["--data", str(tmp_path / "data")],
        ]
        with Background(command, tmp_path / "log") as running:
            running.wait_for("Try it")
            assert f"whoever reaches port {unused_port} can read and change" in running.text()
            assert running.stop() == 0


class TestWorker:
    def test_an_app_without_triggers(self, tmp_path: Path) -> None:
        (tmp_path / "empty_app.py").write_text(
            "from streamtable import App\n"
            "app = App('x')\n"
            "app.check('users', name='right')(lambda old, new: None)\n"
        )
        line = error_line("worker", "empty_app.py:app", cwd=tmp_path)
        assert "the app x in empty_app.py:app has nothing to run" in line
        assert "Its checks run in a node: streamtable serve --checks empty_app.py:app" in line

    def test_a_path_that_is_none(self, tmp_path: Path) -> None:
        assert "there is no file x.py" in error_line("worker", "x.py:app", cwd=tmp_path)


class TestLog:
    def test_tail_shows_what_changed(self, table: str, endpoint: str) -> None:
        code, out, err = run("log", "tail", "--no-follow", "--table", table, "--endpoint", endpoint)
        assert (code, err) == (0, "")
        assert ESCAPE not in out
        lines = [line for line in out.splitlines() if "takes the shard over" not in line]
        assert f'  {table}  INSERT  id="a"' in lines[0]
        assert lines[1:3] == ["    + n: 1", '    + x: "y"']
        assert f'  {table}  MODIFY  id="a"' in lines[3]
        assert lines[4:7] == ["    ~ n: 1 -> 2", '    - x: "y"', "    + z: null"]
        assert f'  {table}  REMOVE  id="a"' in lines[7]
        assert lines[8:] == ["    - n: 2", "    - z: null"]

    def test_tail_as_json(self, table: str, endpoint: str) -> None:
        arguments = ["log", "tail", "--no-follow", "--json", "-t", table, "--endpoint", endpoint]
        found = [json.loads(line) for line in run(*arguments)[1].splitlines()]
        assert [change["eventName"] for change in found] == ["INSERT", "MODIFY", "REMOVE"]
        assert found[0]["dynamodb"]["NewImage"]["n"] == {"N": "1"}
        assert found[0]["dynamodb"]["Keys"] == {"id": {"S": "a"}}
        assert found[0]["sequenceNumber"] < found[1]["sequenceNumber"]

    @pytest.mark.parametrize(("start", "count"), [("earliest", 3), ("2h", 3), ("latest", 0)])
    def test_tail_from(self, table: str, endpoint: str, start: str, count: int) -> None:
        arguments = ["log", "tail", "--no-follow", "--json", "-t", table, "--from", start]
        assert len(run(*arguments, "--endpoint", endpoint)[1].splitlines()) == count

    def test_tail_from_what_is_no_time(self, endpoint: str) -> None:
        code, _, err = run("log", "tail", "--from", "noon", "--endpoint", endpoint)
        assert code == 2
        assert "'noon' is none of earliest, latest" in err

    def test_tail_follows_until_told_to_stop(
        self, table: str, endpoint: str, client: Any, tmp_path: Path
    ) -> None:
        command = [str(BIN / "streamtable"), "log", "tail", "--json", "--from", "earliest"]
        with Background([*command, "--endpoint", endpoint], tmp_path / "tail") as running:
            running.wait_for('"REMOVE"')
            client.put_item(TableName=table, Item={"id": {"S": "followed"}})
            running.wait_for('"followed"')
            assert running.stop() == 0
        client.delete_item(TableName=table, Key={"id": {"S": "followed"}})

    def test_tail_reads_the_brokers_without_a_node(self, table: str, server: Server) -> None:
        arguments = ["log", "tail", "--no-follow", "--json", "--kafka", server.broker]
        lines = run(*arguments, "-t", table)[1].splitlines()
        assert json.loads(lines[0])["eventName"] == "INSERT"

    def test_stat(self, table: str, endpoint: str) -> None:
        arguments = ["log", "stat", "--endpoint", endpoint]
        shards = json.loads(run(*arguments, "--json")[1])
        assert [shard["shard"] for shard in shards] == [0, 1, 2, 3]
        for shard in shards:
            assert shard["records"] == shard["end"] - shard["start"] > 0
            assert shard["first_ms"] <= shard["last_ms"]
            assert shard["epoch"] is not None
            assert shard["start"] <= shard["barrier"] < shard["end"]
        assert sum(shard["changes_per_s"] for shard in shards) > 0
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert out.splitlines()[0].split()[:4] == ["shard", "start", "end", "records"]
        assert len(out.splitlines()) == 5

    @pytest.mark.parametrize("command", ["tail", "stat"])
    def test_no_node_no_broker_no_log(self, command: str, unused_port: int, server: Server) -> None:
        line = error_line("log", command, "--endpoint", f"http://127.0.0.1:{unused_port}")
        assert f"no node answers at http://127.0.0.1:{unused_port}" in line
        line = error_line("log", command, "--kafka", f"127.0.0.1:{unused_port}")
        assert f"no Kafka broker answers at 127.0.0.1:{unused_port}" in line
        line = error_line("log", command, "--kafka", server.broker, "--region", "other")
        assert "have no topic other.changelog" in line


def test_what_is_no_address_of_a_node_is_wrong_usage() -> None:
    code, _, err = run("lag", "--endpoint", "127.0.0.1:8000")
    assert code == 2
    assert "is no URL of a node, such as" in " ".join(err.replace("│", " ").split())
