from streamtable.core.changes import Change
from streamtable.core.positions import Position
from streamtable.streams.item_history import ItemHistory, SoughtItem
from tests.streams.logs import TABLE_ID, MemoryFetches, put

ADA = SoughtItem(("users",), TABLE_ID, {"id": {"S": "ada"}}, 0)
T0 = 1_700_000_000_000


async def whole(log: MemoryFetches, item: SoughtItem = ADA, start: int = 0) -> list[Position]:
    """Where an item's changes are, page by page until the log's end."""
    history = ItemHistory(log, log)
    found: list[Position] = []
    while True:
        page = await history.read(item, start)
        found += [position for position, _ in page.changes]
        assert page.next > start or page.next == page.end
        start = page.next
        if start >= page.end:
            return found


async def test_the_changes_of_one_item_in_their_order():
    log = MemoryFetches()
    log.barrier("one")
    for number in range(10):
        log.commit("one", put("grace"), put("ada", str(number)))
    page = await ItemHistory(log, log).read(ADA, 0)
    assert [position for position, _ in page.changes] == [Position(0, n, 1) for n in range(1, 11)]
    values = [change.new.item["v"]["S"] for _, change in page.changes if change.new]
    assert values == [str(number) for number in range(10)]
    assert (page.start, page.next, page.end) == (0, 11, 11)


async def test_void_commits_are_left_out():
    log = MemoryFetches(batch=1)
    log.barrier("one")
    log.commit("one", put("ada"))
    log.barrier("two")
    log.commit("one", put("ada"))
    log.commit("two", put("ada"))
    assert [position.offset for position in await whole(log)] == [1, 4]


async def test_a_search_in_the_middle_knows_the_epoch():
    log = MemoryFetches()
    log.barrier("one")
    log.barrier("two")
    log.commit("one", put("ada"))
    log.commit("two", put("ada"))
    assert [position.offset for position in await whole(log, start=2)] == [3]


async def test_other_tables_and_tables_of_before_are_left_out():
    log = MemoryFetches()
    log.barrier("one")
    log.commit("one", put("ada", table="orders"))
    log.commit("one", put("ada", table_id="00000000-0000-0000-0000-000000000001"))
    log.commit("one", put("ada"))
    assert [position.offset for position in await whole(log)] == [3]


async def test_a_table_that_had_another_name():
    log = MemoryFetches()
    log.barrier("one")
    log.commit("one", put("ada", table="users~2"))
    log.commit("one", put("ada"))
    item = SoughtItem(("users", "users~2"), TABLE_ID, ADA.keys, 0)
    assert [position.offset for position in await whole(log, item)] == [1, 2]


async def test_the_key_as_a_value_is_no_hit():
    log = MemoryFetches()
    log.barrier("one")
    log.commit("one", put("grace", '"Keys":{"id":{"S":"ada"}}'))
    # Its text is in this commit, but not the item's change.
    log.commit("one", put("ada", table_id="other"), put("grace"))
    assert await whole(log) == []


async def test_a_key_that_json_writes_otherwise():
    keys = {"id": {"S": 'a "quoted" \\ ü \u2028 \n'}, "n": {"N": "1.5"}}
    log = MemoryFetches()
    log.barrier("one")
    log.commit("one", put("", keys=keys))
    found = await whole(log, SoughtItem(("users",), TABLE_ID, keys, 0))
    assert [position.offset for position in found] == [1]


async def test_what_has_not_the_key_is_not_taken_apart(monkeypatch):
    log = MemoryFetches(batch=10)
    log.barrier("one")
    for number in range(99):
        log.commit("one", put(f"user-{number}"))
    log.commit("one", put("ada"))
    parsed: list[bytes] = []
    record_type = type(log.shards[0][0])
    changes = record_type.changes

    def counted(record) -> list[Change]:
        parsed.append(record.value)
        return changes(record)

    monkeypatch.setattr(record_type, "changes", counted)
    assert len(await whole(log)) == 1
    assert len(parsed) == 1
    # The barrier's part and the last one were read, the others skipped.
    assert (log.fetches, log.skipped) == (11, 9)


async def test_a_page_ends_when_its_time_is_over():
    log = MemoryFetches(batch=2)
    log.barrier("one")
    for _ in range(9):
        log.commit("one", put("ada"))
    page = await ItemHistory(log, log).read(ADA, 0, search_s=0)
    assert (page.next, page.end, len(page.changes)) == (2, 10, 1)
    assert len(await whole(log)) == 9


async def test_an_empty_log_and_its_end():
    log = MemoryFetches()
    page = await ItemHistory(log, log).read(ADA, 0)
    assert (page.changes, page.next, page.end) == ([], 0, 0)


async def test_where_to_begin():
    log = MemoryFetches()
    for number in range(3):
        log.commit("one", put("ada", created_ms=T0 + number))
    history = ItemHistory(log, log)
    assert await history.start(0, T0 - 1) == 0
    assert await history.start(0, T0 + 1) == 1
    assert await history.start(0, T0 + 3) == 3
    log.first = 2
    assert await history.start(0, T0) == 2
