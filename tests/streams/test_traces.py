"""A commit that carries traced requests says so in its record; nothing else does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamtable.streams import records
from streamtable.streams.peers.messages import context_from_json, context_to_json
from streamtable.streams.records import LogRecord
from streamtable.streams.shard import Shard
from streamtable.streams.traces import TRACE
from tests.streams.shards import CONTEXT, MemoryLog, PutWrite, make_shard, until
from tests.support.changelog import change


class Steps:
    """Stands where a tracer stands, and for its steps."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, Sequence[str], Mapping[str, Any]]] = []
        self.ended: list[tuple[BaseException | None, dict[str, Any]]] = []
        self.trace = "step"

    def begin(self, name: str, causes: Sequence[str], attributes: Mapping[str, Any]) -> "Steps":
        self.begun.append((name, list(causes), attributes))
        return self

    def end(self, error: BaseException | None = None, **attributes: Any) -> None:
        self.ended.append((error, attributes))


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shard(tmp_path: Path, log: MemoryLog) -> Shard:
    shard = make_shard(tmp_path, log)
    await shard.take_over()
    return shard


async def test_what_is_not_traced_has_no_trace(shard: Shard, log: MemoryLog) -> None:
    shard.owner.tracer = steps = Steps()
    await shard.write(PutWrite("a", 1), CONTEXT)
    assert log.records[-1].trace is None
    assert log.records[-1].changes()[0].trace is None
    assert not steps.begun


async def test_a_commit_follows_from_all_its_traced_requests(shard: Shard, log: MemoryLog) -> None:
    shard.owner.tracer = steps = Steps()
    contexts = [CONTEXT, replace(CONTEXT, trace="one"), replace(CONTEXT, trace="two")]
    commit = shard.owner.commit()
    for number, context in enumerate([*contexts, contexts[1]]):
        shard.join(commit, shard.evaluate(PutWrite(str(number), 1)), context)
    offset = await commit.outcome()
    assert steps.begun == [("commit", ["one", "two"], {"shard": 0, "changes": 4})]
    assert steps.ended == [(None, {"offset": offset, "void": False})]
    assert log.records[offset].trace == "step"
    # Whoever reads them follows from the commit, not from the request.
    assert {found.trace for found in log.records[offset].changes()} == {"step"}
    assert "step" not in log.records[offset].value.decode()


async def test_a_node_that_traces_nothing_passes_on_what_it_got(
    shard: Shard, log: MemoryLog
) -> None:
    await shard.write(PutWrite("a", 1), replace(CONTEXT, trace="theirs"))
    assert log.records[-1].trace == "theirs"


async def test_an_append_without_an_answer_is_told(shard: Shard, log: MemoryLog) -> None:
    shard.owner.tracer = steps = Steps()
    log.hide = 1
    await shard.write(PutWrite("a", 1), replace(CONTEXT, trace="one"))
    await until(lambda: shard.owner.serving)
    [(error, _)] = steps.ended
    assert error is not None


def test_a_request_that_another_node_carries_out_is_traced_there() -> None:
    context = replace(CONTEXT, trace="one")
    assert context_from_json(context_to_json(context)) == context
    assert context_from_json(context_to_json(CONTEXT)) == CONTEXT


def test_wanted_changes_have_the_records_trace() -> None:
    value, headers = records.commit("e", [change("a"), change("b")], [])
    record = LogRecord.read(0, 7, 0, [*headers, (TRACE, b"step")], value)
    found = record.wanted("users", {"INSERT"})
    assert [each.trace for _, each in found] == ["step", "step"]
