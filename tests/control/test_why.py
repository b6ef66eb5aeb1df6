"""The page that tells what happened to an item, on a log in memory."""

from typing import Any

import orjson
import pytest

from streamtable.control.outcomes import ConsumerOnShard
from streamtable.control.why import Why
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.documents import KeyElement, TableDocument
from streamtable.core.errors import ResourceNotFound, ValidationError
from streamtable.core.layouts import LayoutDocument, Split
from streamtable.core.tables import Table
from streamtable.streams import records
from streamtable.streams.item_history import ItemHistory
from streamtable.streams.layout import Layout
from tests.streams.logs import MemoryFetches, put

T0 = 1_700_000_000_000
DAY_MS = 24 * 3600 * 1000
TABLE = Table(
    TableDocument(
        name="users",
        id="00000000-0000-0000-0000-000000000007",
        region="test",
        account="000000000000",
        created=0,
        attributes={"id": "S"},
        keys=(KeyElement(name="id", kind="HASH"),),
    )
)
MAIL = ConsumerDocument(
    kind="trigger",
    app="shop",
    name="mail",
    id="1",
    sources=("users",),
    start={0: 0},
    start_text="TRIM_HORIZON",
    created=0,
    definition={"on": ["INSERT"], "where": None},
)


@pytest.fixture
def log() -> MemoryFetches:
    log = MemoryFetches()
    log.barrier("one")
    for hours in range(3):
        log.commit("one", put("ada", str(hours), created_ms=T0 + hours * 3_600_000), put("grace"))
    return log


@pytest.fixture
def why(log: MemoryFetches) -> Why:
    def find(name: str) -> Table:
        if name != "users":
            raise ResourceNotFound("Requested resource not found")
        return TABLE

    async def consumers(table: str, shard: int) -> list[ConsumerOnShard]:
        assert (table, shard) == ("users", 0)
        return [ConsumerOnShard(MAIL, next=3)]

    return Why(
        find=find,
        layout=Layout(1),
        history=ItemHistory(log, log),
        consumers=consumers,
        now_ms=lambda: T0 + DAY_MS,
    )


async def ask(why: Why, **query: str) -> dict[str, Any]:
    """What a client gets."""
    answer: dict[str, Any] = orjson.loads(orjson.dumps(await why.page(query)))
    return answer


async def test_each_change_with_what_became_of_it(why: Why) -> None:
    found = await ask(why, table="users", key="id=ada")
    assert {name: found[name] for name in ("table", "key", "shard", "from", "next", "end")} == {
        "table": "users",
        "key": {"id": {"S": "ada"}},
        "shard": 0,
        "from": 1,
        "next": 4,
        "end": 4,
    }
    assert [(each["offset"], each["index"]) for each in found["changes"]] == [
        (1, 0),
        (2, 0),
        (3, 0),
    ]
    first, _, last = found["changes"]
    assert first["requestId"] == "R"
    assert first["principal"] == "someone"
    assert first["dynamodb"]["NewImage"]["v"] == {"S": "0"}
    assert first["sequenceNumber"] == "000000000000000100000"
    done = {"consumer": "shop/mail", "kind": "trigger", "outcome": "done"}
    assert first["consumers"] == [done]
    assert last["consumers"] == [{**done, "outcome": "not there yet"}]


async def test_since_and_from(why: Why) -> None:
    since = str(T0 + 3_600_000)
    found = await ask(why, table="users", key="id=ada", since_ms=since)
    assert [each["offset"] for each in found["changes"]] == [2, 3]
    found = await ask(why, table="users", key="id=ada", **{"from": "3"})
    assert [each["offset"] for each in found["changes"]] == [3]
    found = await ask(why, table="users", key="id=ada", **{"from": "4"})
    assert (found["changes"], found["next"], found["end"]) == ([], 4, 4)


async def test_a_day_unless_told(why: Why, log: MemoryFetches) -> None:
    why._now_ms = lambda: T0 + DAY_MS + 1
    assert [
        each["offset"] for each in (await ask(why, table="users", key="id=ada"))["changes"]
    ] == [
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"key": "id=ada"}, "table is missing"),
        ({"table": "users"}, "key is missing"),
        ({"table": "users", "key": "ada"}, r"write id=\.\.\."),
        ({"table": "users", "key": "id=ada", "from": "x"}, "from=x is no number"),
        ({"table": "users", "key": "id=ada", "since_ms": "-1"}, "since_ms=-1 is no number"),
    ],
)
async def test_what_is_no_question(why: Why, query: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        await ask(why, **query)


async def test_no_such_table(why: Why) -> None:
    with pytest.raises(ResourceNotFound, match="there is no table orders"):
        await ask(why, table="orders", key="id=ada")


async def test_what_the_log_has_lost(why: Why, log: MemoryFetches) -> None:
    log.first = 2
    found = await ask(why, table="users", key="id=ada")
    assert [each["offset"] for each in found["changes"]] == [2, 3]
    with pytest.raises(ValidationError):
        await ask(why, table="users", key="id=ada", **{"from": "1"})


async def test_what_was_before_a_split_is_in_the_parents_log() -> None:
    log = MemoryFetches(shards=2)
    log.barrier("one")
    log.commit("one", put("ada", "0", created_ms=T0), put("grace"))
    end = log.append(records.split("one", "attempt", 0))
    log.barrier("two", 1)
    log.commit("two", put("ada", "1", created_ms=T0 + 3_600_000), shard=1)
    layout = Layout(1)
    at = T0 / 1000 + 60
    split = Split(before=1, after=2, ends=(end,), index_ends=(0,), at=at)
    layout.take(LayoutDocument(count=2, splits=(split,)))

    async def nobody(_table: str, _shard: int) -> list[ConsumerOnShard]:
        return []

    why = Why(
        find=lambda _name: TABLE,
        layout=layout,
        history=ItemHistory(log, log),
        consumers=nobody,
        now_ms=lambda: T0 + DAY_MS,
    )
    number, _ = TABLE.keys.locate(TABLE.prefix, {"id": {"S": "ada"}})
    assert number % 2 == 1, "it went to the new shard"
    first = await ask(why, table="users", key="id=ada")
    assert (first["shard"], first["then"]) == (0, 1)
    second = await ask(why, table="users", key="id=ada", shard="1")
    assert (second["shard"], second["then"]) == (1, None)
    changes = [each for page in (first, second) for each in page["changes"]]
    found = [each["dynamodb"]["NewImage"]["v"] for each in changes]
    assert found == [{"S": "0"}, {"S": "1"}]
    # Its parent's log has nothing of it since then.
    late = await ask(why, table="users", key="id=ada", since_ms=str(int(at * 1000) + 1))
    assert (late["shard"], late["then"]) == (1, None)
    with pytest.raises(ValidationError, match="never on shard 7"):
        await ask(why, table="users", key="id=ada", shard="7")
