import pytest

from streamtable.core.capacity import ConsumedCapacity, read_units, write_units


@pytest.mark.parametrize(
    ("size", "eventual", "consistent", "transactional"),
    [(0, 0.5, 1, 2), (1, 0.5, 1, 2), (4096, 0.5, 1, 2), (4097, 1, 2, 4), (409_600, 50, 100, 200)],
)
def test_read_units(size, eventual, consistent, transactional):
    assert read_units(size, consistent=False) == eventual
    assert read_units(size, consistent=True) == consistent
    assert read_units(size, consistent=True, transactional=True) == transactional


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (1024, 1), (1025, 2), (409_600, 400)])
def test_write_units(size, units):
    assert write_units(size) == units


def test_nothing_is_reported_unless_wanted():
    consumed = ConsumedCapacity("users", 1.0)
    assert consumed.report(None) is None
    assert consumed.report("NONE") is None


def test_totals_and_indexes():
    consumed = ConsumedCapacity("users", 2.0)
    consumed.add(ConsumedCapacity("users", 1.0, {"by_day": 1.0}, {"by_mail": 0.5}))
    consumed.add(ConsumedCapacity("users", 0.0, {"by_day": 1.0}, {"by_name": 3.0}))
    assert consumed.report("TOTAL") == {"TableName": "users", "CapacityUnits": 8.5}
    assert consumed.report("INDEXES") == {
        "TableName": "users",
        "CapacityUnits": 8.5,
        "Table": {"CapacityUnits": 3.0},
        "LocalSecondaryIndexes": {"by_day": {"CapacityUnits": 2.0}},
        "GlobalSecondaryIndexes": {
            "by_mail": {"CapacityUnits": 0.5},
            "by_name": {"CapacityUnits": 3.0},
        },
    }


def test_a_table_without_indexes():
    assert ConsumedCapacity("users", 1.0).report("INDEXES") == {
        "TableName": "users",
        "CapacityUnits": 1.0,
        "Table": {"CapacityUnits": 1.0},
    }


def test_transactions_name_the_kind_of_their_units():
    consumed = ConsumedCapacity("users", 2.0, transaction="Write")
    assert consumed.report("INDEXES") == {
        "TableName": "users",
        "CapacityUnits": 2.0,
        "WriteCapacityUnits": 2.0,
        "Table": {"CapacityUnits": 2.0, "WriteCapacityUnits": 2.0},
    }
