from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.descriptions import describe_table
from streamtable.core.documents import TableDocument
from streamtable.core.errors import ValidationError
from streamtable.core.tables import Table

TABLE_ID = "00000000-0000-4000-8000-000000000001"
LOCAL_ID = "00000000-0000-4000-8000-000000000002"
GLOBAL_ID = "00000000-0000-4000-8000-000000000003"


def document(**changes):
    return TableDocument.model_validate(
        {
            "name": "posts",
            "id": TABLE_ID,
            "region": "local",
            "account": "000000000000",
            "created": 1_700_000_000.25,
            "attributes": {"id": "S", "seq": "N", "mail": "S"},
            "keys": [{"name": "id", "kind": "HASH"}, {"name": "seq", "kind": "RANGE"}],
            "indexes": [
                {
                    "name": "by_mail",
                    "id": GLOBAL_ID,
                    "scope": "GLOBAL",
                    "keys": [{"name": "mail", "kind": "HASH"}],
                    "projection": {"kind": "INCLUDE", "attributes": ["title"]},
                },
                {
                    "name": "local_mail",
                    "id": LOCAL_ID,
                    "scope": "LOCAL",
                    "keys": [{"name": "id", "kind": "HASH"}, {"name": "mail", "kind": "RANGE"}],
                    "projection": {"kind": "ALL"},
                },
            ],
            **changes,
        }
    )


def simple(**changes):
    return Table(
        document(
            attributes={"id": "S"},
            keys=[{"name": "id", "kind": "HASH"}],
            indexes=[],
            **changes,
        )
    )


ITEM = {
    "id": {"S": "a"},
    "seq": {"N": "1"},
    "mail": {"S": "m"},
    "title": {"S": "t"},
    "text": {"S": "x"},
}


def test_prefixes_name_kind_and_id():
    table = Table(document())
    assert table.prefix == b"\x01" + UUID(TABLE_ID).bytes
    assert table.indexes["by_mail"].prefix == b"\x03" + UUID(GLOBAL_ID).bytes
    assert table.indexes["local_mail"].prefix == b"\x02" + UUID(LOCAL_ID).bytes
    assert table.has_global_indexes
    assert table.prefix < table.end


def test_a_document_survives_the_catalog():
    whole = document(
        tags={"a": "b"},
        streams=[{"label": "l", "view_type": "KEYS_ONLY", "enabled": 1.5}],
        time_to_live={"attribute": "until", "enabled": True, "changed": 2.5},
        policy={"text": "{}", "revision": "1"},
    )
    assert TableDocument.model_validate_json(whole.model_dump_json()) == whole


@given(st.text(min_size=1, max_size=600), st.integers(-(10**30), 10**30))
def test_keys_and_items_have_the_same_row(text, number):
    for table in (Table(document()), simple()):
        key = {"id": {"S": text}, "seq": {"N": str(number)}}
        if table.key_names == ("id",):
            del key["seq"]
        located = table.locate_key(key)
        assert located == table.locate_item({**key, "more": {"S": "x"}})
        assert located[0] == key
        assert located[1:] == table.keys.locate(table.prefix, key)
        assert table.hash_of(key) == table.hash_of({**key, "more": {"S": "x"}}) == located[1]


def test_a_key_comes_in_the_order_of_the_schema():
    key, _, _ = Table(document()).locate_key({"seq": {"N": "1.0"}, "id": {"S": "a"}})
    assert list(key.items()) == [("id", {"S": "a"}), ("seq", {"N": "1"})]


@pytest.mark.parametrize("key", [{}, {"id": {"S": "a"}, "x": {"S": "b"}}, {"id": {"N": "1"}}])
def test_what_is_no_key(key):
    with pytest.raises(ValidationError, match="The provided key element does not match the schema"):
        simple().locate_key(key)


@pytest.mark.parametrize("item", [{}, {"more": {"S": "a"}}, {"id": {"N": "1"}}, {"id": {"S": ""}}])
def test_what_has_no_hash(item):
    with pytest.raises((KeyError, ValidationError)):
        simple().hash_of(item)


@pytest.mark.parametrize("length", [512, 513, 2048])
def test_long_keys(length):
    simple().locate_key({"id": {"S": "x" * length}})
    if length == 2048:
        with pytest.raises(ValidationError, match="Size of hashkey has exceeded"):
            simple().locate_key({"id": {"S": "x" * (length + 1)}})


def test_rows_of_indexes():
    table = Table(document())
    world, local = table.indexes["by_mail"], table.indexes["local_mail"]

    assert world.contains(ITEM)
    assert not world.contains({name: ITEM[name] for name in ("id", "seq")})
    assert not world.contains({**ITEM, "mail": {"M": {}}})
    assert set(world.project(ITEM)) == {"mail", "id", "seq", "title"}
    assert local.project(ITEM) is ITEM
    assert world.row_keys == ("mail", "id", "seq")
    assert local.row_keys == ("id", "mail", "seq")
    # A local index is on the shard of its items.
    assert local.locate(ITEM)[0] == table.locate_item(ITEM)[1]
    # Items with the same index key have rows of their own.
    other = {**ITEM, "seq": {"N": "2"}}
    assert world.locate(ITEM)[0] == world.locate(other)[0]
    assert world.locate(ITEM)[1] < world.locate(other)[1]


def test_what_serves():
    served = {status: simple(status=status).serving for status in ("CREATING", "ACTIVE")}
    assert served == {"CREATING": False, "ACTIVE": True}
    assert simple(status="UPDATING").serving
    assert not simple(status="DELETING").serving


class TestDescription:
    def test_indexes(self):
        described = describe_table(
            document(billing="PAY_PER_REQUEST", billing_named=True, on_demand_since=1.0),
            item_count=3,
            size_bytes=50,
            index_totals={"by_mail": (2, 20)},
        )
        assert (described["ItemCount"], described["TableSizeBytes"]) == (3, 50)
        assert described["CreationDateTime"] == 1_700_000_000.25
        assert described["LocalSecondaryIndexes"] == [
            {
                "IndexName": "local_mail",
                "KeySchema": [
                    {"AttributeName": "id", "KeyType": "HASH"},
                    {"AttributeName": "mail", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
                "IndexSizeBytes": 0,
                "ItemCount": 0,
                "IndexArn": "arn:aws:dynamodb:local:000000000000:table/posts/index/local_mail",
            }
        ]
        (world,) = described["GlobalSecondaryIndexes"]
        assert world["IndexStatus"] == "ACTIVE"
        assert (world["ItemCount"], world["IndexSizeBytes"]) == (2, 20)
        assert world["Projection"] == {
            "ProjectionType": "INCLUDE",
            "NonKeyAttributes": ["title"],
        }

    def test_indexes_come_and_go_with_their_table(self):
        for status in ("CREATING", "DELETING"):
            described = describe_table(document(), status=status)
            assert described["TableStatus"] == status
            assert described["GlobalSecondaryIndexes"][0]["IndexStatus"] == status

    def test_capacity(self):
        on_demand = document(
            billing="PAY_PER_REQUEST",
            billing_named=True,
            on_demand={"read_units": 7},
            warm={"read_units": 15_000, "write_units": 1},
        )
        described = describe_table(on_demand)
        assert described["OnDemandThroughput"] == {
            "MaxReadRequestUnits": 7,
            "MaxWriteRequestUnits": -1,
        }
        assert described["WarmThroughput"] == {
            "ReadUnitsPerSecond": 15_000,
            "WriteUnitsPerSecond": 4_000,
            "Status": "ACTIVE",
        }

    def test_encryption(self):
        described = describe_table(document(encrypted=True, encryption_key="alias/mine"))
        assert described["SSEDescription"] == {
            "Status": "ENABLED",
            "SSEType": "KMS",
            "KMSMasterKeyArn": "arn:aws:kms:local:000000000000:alias/mine",
        }
        assert "SSEDescription" not in describe_table(document())
