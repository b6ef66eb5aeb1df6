import asyncio
import random

import pytest

from streamtable.streams.fetcher import LogTrimmed
from streamtable.streams.layout import Layout
from streamtable.streams.records import LogRecord
from streamtable.streams.stream_reader import StreamReader, Wanted
from tests.streams.logs import TABLE_ID, MemoryFetches, put

NOW = 1_700_000_000_000
WANTED = Wanted("users", TABLE_ID, "NEW_AND_OLD_IMAGES", 0)
MIB = 1024 * 1024


def names(page):
    return [change.keys["id"]["S"] for _, _, change in page.changes]


def reader(log, cache_bytes=MIB):
    return StreamReader(log, log, Layout(len(log.shards)), cache_bytes)


async def read(source, start=(0, 0), wanted=WANTED, limit=1000, max_bytes=MIB):
    return await source.read(0, start, wanted, limit=limit, max_bytes=max_bytes)


@pytest.fixture
def log():
    made = MemoryFetches()
    made.barrier("one")
    return made


class TestExactness:
    async def test_void_commits_are_passed_over(self, log):
        log.commit("one", put("a"))
        log.commit("zombie", put("void"))
        log.barrier("two")
        log.commit("one", put("late"))
        log.commit("two", put("b"))
        assert names(await read(reader(log))) == ["a", "b"]

    async def test_void_commits_are_known_from_the_middle_too(self, log):
        log.barrier("two")
        start = log.commit("one", put("void"))
        log.commit("two", put("a"))
        assert names(await read(reader(log), (start, 0))) == ["a"]

    async def test_the_epoch_is_carried_from_one_part_to_the_next(self, log):
        log.batch = 1
        log.commit("one", put("a"))
        log.barrier("two")
        log.commit("one", put("void"))
        log.commit("two", put("b"))
        assert names(await read(reader(log))) == ["a", "b"]

    async def test_other_tables_are_passed_over_without_parsing(self, log, monkeypatch):
        log.commit("one", put("a", table="posts", table_id="other"))
        log.commit("one", put("b"), put("c", table="posts", table_id="other"))
        parsed: list[int] = []
        changes = LogRecord.changes

        def parse(record):
            parsed.append(record.offset)
            return changes(record)

        monkeypatch.setattr(LogRecord, "changes", parse)
        assert names(await read(reader(log))) == ["b"]
        assert parsed == [2]

    async def test_a_table_of_the_same_name_made_earlier_is_another_one(self, log):
        log.commit("one", put("a", table_id="earlier"))
        log.commit("one", put("b"))
        assert names(await read(reader(log))) == ["b"]

    async def test_only_the_period_in_which_the_stream_was_on(self, log):
        for at in range(5):
            log.commit("one", put(str(at), created_ms=NOW + at))
        wanted = Wanted("users", TABLE_ID, "KEYS_ONLY", NOW + 1, NOW + 3)
        assert names(await read(reader(log), wanted=wanted)) == ["1", "2", "3"]


class TestPages:
    async def test_pages_meet_inside_a_commit(self, log):
        log.commit("one", *(put(str(number)) for number in range(7)))
        log.commit("one", *(put(str(number)) for number in range(7, 10)))
        source, position, found = reader(log), (0, 0), []
        while True:
            page = await read(source, position, limit=3)
            found.append(names(page))
            position = page.next
            if page.at_end:
                break
        assert found == [["0", "1", "2"], ["3", "4", "5"], ["6", "7", "8"], ["9"]]

    async def test_a_page_is_bounded_by_size_but_never_empty_by_it(self, log):
        log.commit("one", *(put(str(number), "x" * 1000) for number in range(5)))
        source = reader(log)
        assert len((await read(source, max_bytes=2100)).changes) == 2
        page = await read(source, max_bytes=10)
        assert names(page) == ["0"]
        assert page.next == (1, 1)

    async def test_an_empty_page_still_moves_on(self, log):
        for _ in range(10):
            log.commit("one", put("a", table="posts", table_id="other"))
        page = await read(reader(log))
        assert (page.changes, page.next, page.at_end) == ([], (11, 0), True)

    async def test_what_other_tables_write_much_of_hides_nothing(self, log):
        log.batch = 1
        text = "x" * (3 * MIB)
        for _ in range(8):
            log.commit("one", put("a", text, table="posts", table_id="other"))
        log.commit("one", put("b"))
        # As long as it takes: how fast this machine is says nothing about the reader.
        page = await read(StreamReader(log, log, Layout(len(log.shards)), MIB, search_s=60))
        assert names(page) == ["b"]

    async def test_a_call_that_has_found_something_goes_through_a_bounded_part(self, log):
        log.batch = 1
        log.commit("one", put("a"))
        text = "x" * (3 * MIB)
        for _ in range(8):
            log.commit("one", put("a", text, table="posts", table_id="other"))
        page = await read(reader(log))
        assert names(page) == ["a"]
        assert not page.at_end
        assert 0 < page.next[0] < 10

    async def test_a_call_that_finds_nothing_ends_in_time_and_has_moved_on(self, log):
        log.batch = 1
        for _ in range(3):
            log.commit("one", put("a", table="posts", table_id="other"))
        source = StreamReader(log, log, Layout(len(log.shards)), MIB, search_s=0)
        page = await read(source)
        assert (page.changes, page.next, page.at_end) == ([], (1, 0), False)

    async def test_others_have_their_turn_while_memory_is_gone_through(self, log):
        log.batch = 1
        text = "x" * (MIB * 3 // 4)
        for _ in range(8):
            log.commit("one", put("a", text, table="posts", table_id="other"))
        source = reader(log, cache_bytes=64 * MIB)
        await read(source)
        reads, turns = log.fetches, 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await read(source, (0, 0))
        task.cancel()
        assert log.fetches == reads + 1  # What is after the end.
        assert turns >= 8

    async def test_a_closed_shard_ends_before_its_end(self, log):
        for number in range(4):
            log.commit("one", put(str(number)))
        wanted = Wanted("users", TABLE_ID, "KEYS_ONLY", 0, None, 3)
        page = await read(reader(log), wanted=wanted)
        assert names(page) == ["0", "1"]
        assert page.next >= (3, 0)

    async def test_what_was_trimmed_is_told(self, log):
        log.first = 1
        with pytest.raises(LogTrimmed):
            await read(reader(log))


class TestSharing:
    async def test_the_log_is_read_once_for_many(self, log):
        for number in range(20):
            log.commit("one", put(str(number)))
        source = reader(log)
        first = await read(source)
        reads = log.fetches
        for start in range(21):
            page = await read(source, (start, 0))
            assert names(page) == names(first)[max(0, start - 1) :]
        # Each reader looks for what is after the end; nothing else is read again.
        assert log.fetches - reads == 21

    async def test_readers_at_the_same_place_share_a_request(self, log):
        log.commit("one", put("a"))
        source = reader(log)
        pages = await asyncio.gather(*(read(source) for _ in range(10)))
        assert [names(page) for page in pages] == [["a"]] * 10
        assert log.fetches == 2

    async def test_the_cache_is_bounded(self, log):
        for number in range(200):
            log.commit("one", put(str(number), "x" * 1000))
        source = reader(log, cache_bytes=100_000)
        assert len((await read(source)).changes) == 200
        assert source._cache.size_bytes <= 100_000
        kept = source._cache._segments.values()
        assert source._cache.size_bytes == sum(segment.size_bytes for segment in kept)

    @pytest.mark.parametrize("seed", range(20))
    async def test_whatever_the_order_of_reads_each_finds_the_same(self, seed):
        chance = random.Random(seed)
        log = MemoryFetches(batch=chance.randint(1, 7))
        expected, epoch = [], "none"
        for number in range(chance.randint(20, 120)):
            match chance.randrange(6):
                case 0:
                    epoch = str(number)
                    log.barrier(epoch)
                case 1:
                    log.commit("zombie", put(f"void{number}"))
                case 2:
                    log.commit(epoch, put(str(number), table="posts", table_id="other"))
                case _:
                    changes = [put(f"{number}.{index}") for index in range(chance.randint(1, 3))]
                    offset = log.commit(epoch, *changes)
                    if epoch != "none":
                        expected += [
                            (offset, index, change.keys["id"]["S"])
                            for index, change in enumerate(changes)
                        ]
        source = reader(log, cache_bytes=chance.choice([5_000, 50_000, MIB]))
        for _ in range(60):
            start = chance.randrange(len(log.shards[0]) + 1), chance.randrange(3)
            limit = chance.randint(1, 20)
            page = await read(source, start, limit=limit)
            found = [(*place, change.keys["id"]["S"]) for *place, change in page.changes]
            assert found == [each for each in expected if each[:2] >= start][:limit]
