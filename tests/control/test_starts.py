import pytest

from streamtable.control.starts import Starts
from streamtable.core.errors import ValidationError
from streamtable.streams.fetcher import Fetched
from streamtable.streams.layout import Layout
from streamtable.streams.records import COMMIT, LogRecord

NOW_S = 2_000_000_000.0


class Log:
    """Three shards: records of given times, the first at a given offset."""

    def __init__(self):
        self.shards = {0: (10, [100_000, 200_000, 300_000]), 1: (0, [250_000]), 2: (4, [])}

    async def bounds(self, shard):
        first, times = self.shards[shard]
        return first, first + len(times)

    async def offset_at(self, shard, timestamp_ms):
        first, times = self.shards[shard]
        later = (first + n for n, time in enumerate(times) if time >= timestamp_ms)
        return next(later, None)

    async def fetch(self, shard, offset, max_bytes):
        first, times = self.shards[shard]
        records = [
            LogRecord(shard, first + n, time, COMMIT, "e", frozenset(), b"")
            for n, time in enumerate(times)
            if first + n >= offset
        ][:1]
        return Fetched(records, offset + len(records), 0)


@pytest.fixture
def starts():
    return Starts(Log(), Layout(3), lambda: NOW_S)


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("TRIM_HORIZON", {0: 10, 1: 0, 2: 4}),
        ("LATEST", {0: 13, 1: 1, 2: 4}),
        ("150", {0: 11, 1: 0, 2: 4}),
        ("260", {0: 12, 1: 1, 2: 4}),
        ("1", {0: 10, 1: 0, 2: 4}),
        (f"{NOW_S + 5}", {0: 13, 1: 1, 2: 4}),
        ("0/11", {0: 11, 1: 0, 2: 4}),
        ("0/12", {0: 12, 1: 1, 2: 4}),
        ("0/13", {0: 13, 1: 1, 2: 4}),
        ("2/4", {0: 13, 1: 1, 2: 4}),
        ("0/12 1/0", {0: 12, 1: 0, 2: 4}),
    ],
)
async def test_where_it_begins(starts, text, offsets):
    assert await starts.resolve(text) == offsets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "'soon' is no start: write LATEST"),
        (f"{NOW_S + 3600}", "is in the future"),
        ("3/1", "there is no shard 3: the log has 3"),
        ("0/9", "shard 0 has the offsets 10 to 13, and not 9"),
        ("1/2", "shard 1 has the offsets 0 to 1, and not 2"),
    ],
)
async def test_what_the_log_does_not_have(starts, text, message):
    with pytest.raises(ValidationError, match=message):
        await starts.resolve(text)
