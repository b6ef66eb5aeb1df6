"""PynamoDB: models, indexes, versions, transactions, conditions and rate-limited scans."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pynamodb.attributes import (
    JSONAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
    UTCDateTimeAttribute,
    VersionAttribute,
)
from pynamodb.connection import Connection
from pynamodb.exceptions import (
    DeleteError,
    DoesNotExist,
    PutError,
    TransactWriteError,
)
from pynamodb.indexes import (
    AllProjection,
    GlobalSecondaryIndex,
    KeysOnlyProjection,
    LocalSecondaryIndex,
)
from pynamodb.models import Model
from pynamodb.transactions import TransactGet, TransactWrite

from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


class Address(MapAttribute[str, Any]):
    street = UnicodeAttribute()
    number = NumberAttribute(null=True)


class ByCity(GlobalSecondaryIndex[Any]):
    class Meta:
        index_name = "by-city"
        projection = AllProjection()

    city = UnicodeAttribute(hash_key=True)
    since = NumberAttribute(range_key=True)


class BySince(LocalSecondaryIndex[Any]):
    class Meta:
        index_name = "by-since"
        projection = KeysOnlyProjection()

    name = UnicodeAttribute(hash_key=True)
    since = NumberAttribute(range_key=True)


@pytest.fixture
def member(endpoint, table_name) -> Iterator[type[Model]]:
    class Member(Model):
        class Meta:
            table_name = ""
            host = ""
            region = "local"
            aws_access_key_id = "local"
            aws_secret_access_key = "local"
            billing_mode = "PAY_PER_REQUEST"
            max_retry_attempts = 0

        name = UnicodeAttribute(hash_key=True)
        club = UnicodeAttribute(range_key=True)
        city = UnicodeAttribute(null=True)
        since = NumberAttribute(default=0)
        tags = UnicodeSetAttribute(null=True)
        address = Address(null=True)
        history: ListAttribute[Any] = ListAttribute(default=list)
        extra = JSONAttribute(null=True)
        joined = UTCDateTimeAttribute(null=True)
        version = VersionAttribute()
        by_city = ByCity()
        by_since = BySince()

    Member.Meta.table_name = table_name
    Member.Meta.host = endpoint
    Member.create_table(wait=True)
    yield Member
    Member.delete_table()


def test_an_item_comes_back_as_it_went(member):
    joined = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    saved = member(
        "ada",
        "chess",
        city="London",
        since=1842,
        tags={"a", "b"},
        address=Address(street="St James's Square", number=12),
        history=["one", 2, {"three": 3}],
        extra={"json": [1, None]},
        joined=joined,
    )
    saved.save()
    read = member.get("ada", "chess", consistent_read=True)
    assert read.attribute_values.keys() == saved.attribute_values.keys()
    assert (read.tags, read.address.street, read.address.number) == (
        {"a", "b"},
        "St James's Square",
        12,
    )
    assert (read.extra, read.joined, read.version) == ({"json": [1, None]}, joined, 1)
    assert member.count("ada") == 1
    with pytest.raises(DoesNotExist):
        member.get("ada", "none")


def test_a_stale_version_is_refused(member):
    member("ada", "chess").save()
    first, second = member.get("ada", "chess"), member.get("ada", "chess")
    first.update(actions=[member.since.set(5), member.tags.add({"new"})])
    assert (first.since, first.tags, first.version) == (5, {"new"}, 2)
    second.since = 6
    with pytest.raises(PutError) as stale:
        second.save()
    assert stale.value.cause_response_code == "ConditionalCheckFailedException"
    with pytest.raises(DeleteError):
        second.delete()
    first.delete(member.since == 5)
    # It is DescribeTable's ItemCount, which follows the writes.
    wait_until(lambda: member.count() == 0, "the count to be 0")


def test_queries_page_over_table_and_indexes(member):
    with member.batch_write() as batch:
        for n in range(30):
            city = "Paris" if n % 3 else None
            batch.save(member("ada", f"club-{n:02}", city=city, since=100 - n))
    found = member.query(
        "ada",
        member.club.between("club-05", "club-20"),
        filter_condition=member.city.exists() & (member.since < 90),
        page_size=4,
    )
    expected = [n for n in range(5, 21) if n % 3 and 100 - n < 90]
    assert [one.since for one in found] == [100 - n for n in expected]

    backwards = member.by_since.query("ada", scan_index_forward=False, limit=3)
    assert [one.club for one in backwards] == ["club-00", "club-01", "club-02"]
    assert sum(1 for _ in member.scan(page_size=7)) == 30
    first = member.query("ada", limit=10, page_size=10)
    assert [one.club for one in first][-1] == "club-09"
    rest = member.query("ada", last_evaluated_key=first.last_evaluated_key)
    assert sum(1 for _ in rest) == 20


def test_a_global_index_follows_its_table(member):
    for n in range(5):
        member("ada", f"club-{n}", city="Paris", since=n).save()
    wait_until(lambda: member.by_city.count("Paris", ByCity.since > 1) == 3, "the index to follow")
    member.get("ada", "club-4").delete()
    wait_until(lambda: member.by_city.count("Paris") == 4, "the index to follow")


def test_transactions_do_all_or_nothing(member, endpoint):
    connection = Connection(region="local", host=endpoint)
    connection.session.set_credentials("local", "local")
    member("ada", "chess", since=1).save()
    with TransactWrite(connection=connection) as transaction:
        transaction.save(member("bob", "chess", since=2))
        transaction.update(member("ada", "chess", version=1), actions=[member.since.add(10)])
    with TransactGet(connection=connection) as reading:
        ada = reading.get(member, "ada", "chess")
        bob = reading.get(member, "bob", "chess")
    assert (ada.get().since, bob.get().since) == (11, 2)

    def fail() -> None:
        with TransactWrite(connection=connection) as transaction:
            transaction.save(member("eve", "chess"))
            transaction.condition_check(member, "bob", "chess", member.since > 2)

    with pytest.raises(TransactWriteError) as cancelled:
        fail()
    assert cancelled.value.cause_response_code == "TransactionCanceledException"
    # It sends the checks first.
    reasons = [reason and reason.code for reason in cancelled.value.cancellation_reasons]
    assert reasons == ["ConditionalCheckFailed", None]
    assert member.count("eve") == 0


def test_a_batch_read_asks_for_each_key_once(member):
    with member.batch_write() as batch:
        for n in range(120):
            batch.save(member(f"member-{n}", "chess", since=n))
    keys = [(f"member-{n}", "chess") for n in range(130)]
    assert sorted(one.since for one in member.batch_get(keys)) == list(range(120))


def test_time_to_live_is_switched_on(member, client):
    member._get_connection().connection.update_time_to_live(member.Meta.table_name, "expires")
    told = client.describe_time_to_live(TableName=member.Meta.table_name)
    assert told["TimeToLiveDescription"]["AttributeName"] == "expires"


def test_a_deleted_table_is_told(endpoint, member):
    assert member.exists()
    member.delete_table(wait=True)
    assert not member.exists()
    with pytest.raises(PutError) as missing:
        member("ada", "chess").save()
    assert missing.value.cause_response_code == "ResourceNotFoundException"
    member.create_table(wait=True)
