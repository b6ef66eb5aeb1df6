"""DynamoDB Streams on a log and a catalog in memory."""

from typing import Any

import orjson
import pytest

from streamtable.core.documents import KeyElement, StreamDocument, TableDocument
from streamtable.core.errors import (
    ExpiredIterator,
    ResourceNotFound,
    ServiceUnavailable,
    TrimmedDataAccess,
    ValidationError,
)
from streamtable.core.layouts import LayoutDocument, Split
from streamtable.core.positions import sequence_number
from streamtable.core.shapes import validate
from streamtable.core.tables import Table
from streamtable.operations import streams
from streamtable.operations.streams import stream_handlers
from streamtable.streams import records
from streamtable.streams.layout import Layout
from streamtable.streams.log import LogUnavailable
from streamtable.streams.stream_reader import StreamReader
from tests.fakes import CONTEXT
from tests.streams.logs import MemoryFetches, put

NOW = 1_700_000_000.0
INVALID = "One or more parameter values were invalid: "
MISSING = f"{INVALID}SequenceNumber must be specified when ShardIteratorType is "
DAY = 24 * 3600
ARN = "arn:aws:dynamodb:local:000000000000:table/users/stream/one"
SHARD = f"shardId-{int(NOW * 1000):020d}-00000000"


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = NOW + 1

    def time(self) -> float:
        return self.now


class Catalog:
    """Tables and what is left of deleted ones, as a test sets them."""

    def __init__(self) -> None:
        self.documents: list[TableDocument] = []
        self.ended: list[TableDocument] = []

    def table(self, name: str) -> Table:
        for table in self.tables():
            if table.name == name:
                return table
        raise ResourceNotFound

    def tables(self) -> list[Table]:
        return [Table(document) for document in self.documents]

    def ended_tables(self) -> list[TableDocument]:
        return self.ended


def stream(label="one", enabled=NOW, disabled=None, view_type="NEW_AND_OLD_IMAGES"):
    return StreamDocument(label=label, view_type=view_type, enabled=enabled, disabled=disabled)


def table(*periods, name="users", number=7):
    return TableDocument(
        name=name,
        id=f"00000000-0000-0000-0000-{number:012}",
        region="local",
        account="000000000000",
        created=0,
        attributes={"id": "S"},
        keys=(KeyElement(name="id", kind="HASH"),),
        streams=periods,
    )


class Service:
    """The operations, called as the gateway calls them."""

    def __init__(self, shards: int) -> None:
        self.log = MemoryFetches(shards)
        for shard in range(shards):
            self.log.barrier("one", shard)
        self.catalog = Catalog()
        self.catalog.documents = [table(stream())]
        self.layout = Layout(shards)
        reader = StreamReader(self.log, self.log, self.layout)
        catalog: Any = self.catalog
        self.handlers = stream_handlers(catalog, reader)

    async def __call__(self, operation: str, **body: Any) -> dict[str, Any]:
        body = orjson.loads(orjson.dumps(body))
        validate(operation, body)
        answer = await self.handlers[operation](body, CONTEXT)
        found: dict[str, Any] = orjson.loads(
            answer if isinstance(answer, bytes) else orjson.dumps(answer)
        )
        return found

    def put(self, name: str, at: float = NOW + 1, shard: int = 0) -> int:
        return self.log.commit("one", put(name, created_ms=int(at * 1000)), shard=shard)

    def split(self, at: float) -> None:
        """Split the only shard in two."""
        end = self.log.append(records.split("one", "attempt", 0))
        split = Split(before=1, after=2, ends=(end,), index_ends=(0,), at=at)
        self.layout.take(LayoutDocument(count=2, splits=(split,)))
        self.log.shards.append([])
        self.log.barrier("one", 1)

    async def describe(self, arn: str = ARN, **body: Any) -> dict[str, Any]:
        answer = await self("DescribeStream", StreamArn=arn, **body)
        found: dict[str, Any] = answer["StreamDescription"]
        return found

    async def iterator(self, kind: str = "TRIM_HORIZON", shard: str = SHARD, **body: Any) -> str:
        body = {"StreamArn": ARN, "ShardId": shard, "ShardIteratorType": kind, **body}
        answer = await self("GetShardIterator", **body)
        found: str = answer["ShardIterator"]
        return found

    async def names(self, token: str, **body: Any) -> list[str]:
        found: list[str] = names(await self("GetRecords", ShardIterator=token, **body))
        return found


def names(answer):
    return [record["dynamodb"]["Keys"]["id"]["S"] for record in answer["Records"]]


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(streams, "time", made)
    return made


@pytest.fixture
def service(clock):
    return Service(1)


async def refusal(service, kind, operation, **body):
    with pytest.raises(kind) as caught:
        await service(operation, **body)
    return caught.value.message


class TestListStreams:
    async def test_every_stream_that_can_be_read(self, service):
        service.catalog.documents = [
            table(stream("b"), name="posts", number=8),
            table(stream("a", disabled=NOW), stream("c")),
            table(name="plain", number=9),
        ]
        answer = await service("ListStreams")
        prefix = "arn:aws:dynamodb:local:000000000000:table"
        assert answer == {
            "Streams": [
                {
                    "StreamArn": f"{prefix}/{name}/stream/{label}",
                    "StreamLabel": label,
                    "TableName": name,
                }
                for name, label in (("posts", "b"), ("users", "a"), ("users", "c"))
            ]
        }

    async def test_of_one_table(self, service):
        service.catalog.documents.append(table(stream("b"), name="posts", number=8))
        answer = await service("ListStreams", TableName="posts")
        assert [each["TableName"] for each in answer["Streams"]] == ["posts"]
        assert await service("ListStreams", TableName="missing") == {"Streams": []}

    async def test_pages(self, service):
        service.catalog.documents = [
            table(stream(), name=f"table{number}", number=number) for number in range(5)
        ]
        found: list[Any] = []
        after: dict[str, Any] = {}
        while True:
            answer = await service("ListStreams", Limit=2, **after)
            found.append([each["TableName"] for each in answer["Streams"]])
            if "LastEvaluatedStreamArn" not in answer:
                break
            after = {"ExclusiveStartStreamArn": answer["LastEvaluatedStreamArn"]}
        assert found == [["table0", "table1"], ["table2", "table3"], ["table4"]]

    async def test_the_limit(self, service):
        message = await refusal(service, ValidationError, "ListStreams", Limit=101)
        assert message == (
            "1 validation error detected: Value '101' at 'limit' failed to satisfy constraint: "
            "Member must have value less than or equal to 100"
        )


class TestDescribeStream:
    async def test_a_stream_that_is_on(self, service):
        assert await service.describe() == {
            "CreationRequestDateTime": NOW,
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "Shards": [
                {
                    "ShardId": SHARD,
                    "SequenceNumberRange": {"StartingSequenceNumber": "000000000000000100000"},
                }
            ],
            "StreamArn": ARN,
            "StreamLabel": "one",
            "StreamStatus": "ENABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "TableName": "users",
        }

    async def test_a_stream_that_is_off_has_closed_shards(self, service, clock):
        service.put("a")
        service.catalog.documents = [table(stream(disabled=NOW + 10))]
        clock.now = NOW + 60
        found = await service.describe()
        assert found["StreamStatus"] == "DISABLED"
        [shard] = found["Shards"]
        numbers = shard["SequenceNumberRange"]
        [record] = (await service("GetRecords", ShardIterator=await service.iterator()))["Records"]
        assert (
            numbers["StartingSequenceNumber"]
            <= record["dynamodb"]["SequenceNumber"]
            <= numbers["EndingSequenceNumber"]
        )
        service.put("later", NOW + 100)
        assert await service.describe() == found

    async def test_pages_of_shards(self, clock):
        service = Service(5)
        found: list[Any] = []
        after: dict[str, Any] = {}
        while True:
            answer = await service.describe(Limit=2, **after)
            found += [shard["ShardId"] for shard in answer["Shards"]]
            if "LastEvaluatedShardId" not in answer:
                break
            after = {"ExclusiveStartShardId": answer["LastEvaluatedShardId"]}
            assert answer["LastEvaluatedShardId"] == found[-1]
        assert found == [f"{SHARD[:-1]}{number}" for number in range(5)]

    async def test_shards_have_no_children(self, service):
        chosen = {"Type": "CHILD_SHARDS", "ShardId": SHARD}
        assert (await service.describe(ShardFilter=chosen))["Shards"] == []
        other = {"Type": "CHILD_SHARDS", "ShardId": SHARD[:-1] + "1"}
        message = await refusal(
            service, ResourceNotFound, "DescribeStream", StreamArn=ARN, ShardFilter=other
        )
        assert message == "Requested resource not found: Shard does not exist"

    async def test_after_a_split_its_shards_have_children(self, clock):
        service = Service(1)
        service.put("older")
        before = service.put("a")
        service.split(NOW + 10)
        after = service.put("b", shard=1)
        parent, *children = (await service.describe())["Shards"]
        assert "EndingSequenceNumber" in parent["SequenceNumberRange"]
        assert [each["ParentShardId"] for each in children] == [parent["ShardId"]] * 2
        assert all("EndingSequenceNumber" not in each["SequenceNumberRange"] for each in children)
        found = await service.describe(
            ShardFilter={"Type": "CHILD_SHARDS", "ShardId": parent["ShardId"]}
        )
        assert found["Shards"] == children
        # The parent is read to its end, and no further.
        token = await service.iterator(shard=parent["ShardId"])
        answer = await service("GetRecords", ShardIterator=token)
        assert names(answer) == ["older", "a"]
        assert "NextShardIterator" not in answer
        [_, first] = [each["dynamodb"]["SequenceNumber"] for each in answer["Records"]]
        assert first == sequence_number(before, 0)
        token = await service.iterator(shard=children[1]["ShardId"])
        answer = await service("GetRecords", ShardIterator=token)
        assert names(answer) == ["b"]
        [second] = [each["dynamodb"]["SequenceNumber"] for each in answer["Records"]]
        assert second > first
        assert after < before, "its offset is smaller"
        again = await service.iterator(
            "AT_SEQUENCE_NUMBER", children[1]["ShardId"], SequenceNumber=second
        )
        assert await service.names(again) == ["b"]

    async def test_a_stream_that_is_switched_on_after_a_split_knows_nothing_of_it(self, clock):
        service = Service(1)
        service.split(NOW - 3600)
        shards = (await service.describe())["Shards"]
        assert len(shards) == 2
        assert not any("ParentShardId" in each for each in shards)

    async def test_unknown_streams(self, service):
        arn = ARN.replace("one", "two")
        message = await refusal(service, ResourceNotFound, "DescribeStream", StreamArn=arn)
        assert message == f"Requested resource not found: Stream: {arn} not found"
        message = await refusal(service, ValidationError, "DescribeStream", StreamArn="x" * 40)
        assert message == "Invalid StreamArn"


class TestGetShardIterator:
    async def test_trim_horizon_is_the_streams_start(self, service):
        service.put("before", NOW - 1)
        service.put("a")
        assert await service.names(await service.iterator("TRIM_HORIZON")) == ["a"]

    async def test_latest_is_after_everything(self, service):
        service.put("a")
        token = await service.iterator("LATEST")
        assert await service.names(token) == []
        service.put("b")
        assert await service.names(token) == ["b"]

    async def test_at_and_after_a_sequence_number(self, service):
        for name in "abc":
            service.put(name)
        answer = await service("GetRecords", ShardIterator=await service.iterator())
        number = answer["Records"][1]["dynamodb"]["SequenceNumber"]
        at = await service.iterator("AT_SEQUENCE_NUMBER", SequenceNumber=number)
        assert await service.names(at) == ["b", "c"]
        after = await service.iterator("AFTER_SEQUENCE_NUMBER", SequenceNumber=number)
        assert await service.names(after) == ["c"]

    async def test_at_a_time(self, service, clock):
        clock.now = NOW + 100
        for number in range(5):
            service.put(str(number), NOW + number)
        for moment, expected in ((NOW + 3, ["3", "4"]), (NOW - 9, list("01234")), (NOW + 50, [])):
            token = await service.iterator("AT_TIMESTAMP", Timestamp=moment)
            assert await service.names(token) == expected
        await refusal(
            service,
            ValidationError,
            "GetShardIterator",
            StreamArn=ARN,
            ShardId=SHARD,
            ShardIteratorType="AT_TIMESTAMP",
            Timestamp=NOW + 101,
        )

    @pytest.mark.parametrize(
        ("kind", "parts", "message"),
        [
            (
                "AT_SEQUENCE_NUMBER",
                {},
                f"{MISSING}AT_SEQUENCE_NUMBER",
            ),
            (
                "LATEST",
                {"SequenceNumber": "0" * 21},
                f"{INVALID}SequenceNumber must not be specified when ShardIteratorType is LATEST",
            ),
            ("AT_SEQUENCE_NUMBER", {"SequenceNumber": "x" * 21}, "Invalid SequenceNumber"),
            ("AFTER_SEQUENCE_NUMBER", {"SequenceNumber": "9" * 21}, "Invalid SequenceNumber"),
        ],
    )
    async def test_wrong_parameters(self, service, kind, parts, message):
        with pytest.raises(ValidationError) as caught:
            await service.iterator(kind, **parts)
        assert caught.value.message == message

    async def test_what_is_trimmed_is_refused(self, service):
        for name in "abc":
            service.put(name)
        service.log.first = 3
        with pytest.raises(TrimmedDataAccess):
            await service.iterator("AT_SEQUENCE_NUMBER", SequenceNumber="000000000000000200000")
        assert await service.names(await service.iterator("TRIM_HORIZON")) == ["c"]

    async def test_unknown_shards(self, service):
        with pytest.raises(ResourceNotFound) as caught:
            await service.iterator(shard=SHARD[:-1] + "4")
        assert caught.value.message == "Requested resource not found: Shard does not exist"


class TestGetRecords:
    async def test_a_reader_follows_the_shard(self, service):
        token = await service.iterator()
        found = []
        for name in "abc":
            service.put(name)
            answer = await service("GetRecords", ShardIterator=token)
            found += names(answer)
            token = answer["NextShardIterator"]
        answer = await service("GetRecords", ShardIterator=token)
        assert answer["Records"] == []
        assert answer["NextShardIterator"]
        assert found == ["a", "b", "c"]

    async def test_an_empty_answer_still_moves_on(self, service):
        token = await service.iterator()
        for _ in range(4):
            service.log.commit("one", put("x", table="posts", table_id="other"))
        answer = await service("GetRecords", ShardIterator=token)
        reads = service.log.fetches
        assert answer["Records"] == []
        service.put("a")
        answer = await service("GetRecords", ShardIterator=answer["NextShardIterator"])
        assert names(answer) == ["a"]
        assert service.log.fetches - reads == 2

    async def test_the_limit(self, service):
        for name in "abc":
            service.put(name)
        answer = await service("GetRecords", ShardIterator=await service.iterator(), Limit=2)
        assert names(answer) == ["a", "b"]
        assert await service.names(answer["NextShardIterator"], Limit=1000) == ["c"]
        message = await refusal(
            service, ValidationError, "GetRecords", ShardIterator="x", Limit=1001
        )
        assert message == (
            "1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: "
            "Member must have value less than or equal to 1000"
        )

    async def test_a_closed_shard_ends(self, service, clock):
        service.put("a")
        token = await service.iterator()
        service.catalog.documents = [table(stream(disabled=NOW + 10))]
        service.put("late", NOW + 11)
        clock.now = NOW + 12
        answer = await service("GetRecords", ShardIterator=token)
        assert names(answer) == ["a"]
        # A write from before may still be on its way.
        token = answer["NextShardIterator"]
        service.put("b", NOW + 9)
        clock.now = NOW + 60
        answer = await service("GetRecords", ShardIterator=token)
        assert names(answer) == ["b"]
        assert "NextShardIterator" not in answer
        assert "NextShardIterator" not in await service(
            "GetRecords", ShardIterator=await service.iterator("LATEST")
        )

    async def test_a_stream_is_readable_for_a_day(self, service, clock):
        service.catalog.documents = [table(stream(disabled=NOW + 10))]
        clock.now = NOW + 10 + DAY - 1
        token = await service.iterator()
        assert (await service("GetRecords", ShardIterator=token))["Records"] == []
        clock.now += 2
        await refusal(service, ResourceNotFound, "GetRecords", ShardIterator=token)

    async def test_switched_on_again_it_is_another_stream(self, service, clock):
        service.put("a", NOW + 5)
        service.put("between", NOW + 15)
        service.put("b", NOW + 25)
        service.catalog.documents = [
            table(stream(disabled=NOW + 10), stream("two", enabled=NOW + 20))
        ]
        clock.now = NOW + 100
        assert await service.names(await service.iterator()) == ["a"]
        arn = ARN.replace("one", "two")
        [shard] = (await service.describe(arn))["Shards"]
        assert shard["ShardId"] != SHARD
        token = await service.iterator(shard=shard["ShardId"], StreamArn=arn)
        assert await service.names(token) == ["b"]

    async def test_a_deleted_tables_stream_can_be_read(self, service, clock):
        service.put("a")
        service.catalog.documents = []
        service.catalog.ended = [table(stream(disabled=NOW + 10))]
        clock.now = NOW + 100
        assert (await service.describe())["StreamStatus"] == "DISABLED"
        assert await service.names(await service.iterator()) == ["a"]

    async def test_a_table_made_again_has_streams_of_its_own(self, service, clock):
        service.put("a")
        service.catalog.ended = [table(stream(disabled=NOW + 10))]
        service.catalog.documents = [table(stream("two", enabled=NOW + 20), number=8)]
        clock.now = NOW + 100
        assert await service.names(await service.iterator()) == ["a"]
        found = (await service("ListStreams", TableName="users"))["Streams"]
        assert [each["StreamLabel"] for each in found] == ["one", "two"]

    async def test_what_a_failed_deletion_left_is_not_looked_at(self, service):
        service.catalog.ended = [table(stream(disabled=NOW))]
        assert (await service.describe())["StreamStatus"] == "ENABLED"

    async def test_iterators_expire(self, service, clock):
        token = await service.iterator()
        clock.now += 901
        message = await refusal(service, ExpiredIterator, "GetRecords", ShardIterator=token)
        assert message == "The provided iterator exceeds the maximum age allowed."

    async def test_trimmed_after_the_iterator_was_made(self, service):
        token = await service.iterator()
        service.put("a")
        service.log.first = 2
        await refusal(service, TrimmedDataAccess, "GetRecords", ShardIterator=token)

    async def test_garbage_is_no_iterator(self, service):
        message = await refusal(service, ValidationError, "GetRecords", ShardIterator="garbage")
        assert message == "Invalid ShardIterator"

    async def test_a_log_that_does_not_answer(self, service, monkeypatch):
        token = await service.iterator()

        async def fail(*_):
            raise LogUnavailable("gone")

        monkeypatch.setattr(service.log, "fetch", fail)
        await refusal(service, ServiceUnavailable, "GetRecords", ShardIterator=token)
