import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.documents import KeyElement, TableDocument, TimeToLive
from streamtable.core.expiry import (
    OLDEST_EXPIRY_S,
    due_rows,
    expires_at,
    expiry_row,
    expiry_rows,
    item_row,
    state_row,
    table_rows,
)
from streamtable.core.tables import Table

NOW = 1_700_000_000
ID = "00000000-0000-0000-0000-000000000007"


def document(enabled=True):
    return TableDocument(
        name="users",
        id=ID,
        region="local",
        account="000000000000",
        created=0,
        attributes={"id": "S"},
        keys=(KeyElement(name="id", kind="HASH"),),
        time_to_live=TimeToLive(attribute="ttl", enabled=enabled, changed=1.0),
    )


TABLE = Table(document())
ROW = TABLE.keys.locate(TABLE.prefix, {"id": {"S": "a"}})[1]


def item(ttl=None):
    return {"id": {"S": "a"}} | ({} if ttl is None else {"ttl": {"N": str(ttl)}})


@pytest.mark.parametrize(
    ("value", "second"),
    [
        ({"N": "1700000000"}, 1_700_000_000),
        ({"N": "1700000000.25"}, 1_700_000_001),
        ({"N": "0.5"}, 1),
        ({"N": str(2**63 - 1)}, 2**63 - 1),
        ({"N": str(2**63)}, None),
        ({"N": "9" * 38}, None),
        ({"N": "1" + "0" * 100}, None),
        ({"N": "0"}, None),
        ({"N": "-1700000000"}, None),
        ({"S": "1700000000"}, None),
        ({"NS": ["1700000000"]}, None),
        ({"NULL": True}, None),
    ],
)
def test_only_a_number_says_when(value, second):
    assert expires_at({"ttl": value}, "ttl") == second


def test_an_item_without_the_attribute_does_not_expire():
    assert expires_at(item(), "ttl") is None


@given(st.binary(min_size=17, max_size=60), st.integers(1, 2**63 - 1))
def test_a_row_leads_back_to_its_item(tail, second):
    row_key = b"\x01" + tail
    assert item_row(expiry_row(row_key, second)) == (row_key, second)


@given(st.integers(1, 2**63 - 2))
def test_rows_are_in_the_order_of_time(second):
    later = ROW[:17] + b"\x00"
    assert expiry_row(ROW, second) < expiry_row(later, second + 1)


@pytest.mark.parametrize(
    ("old", "new", "written", "removed"),
    [
        (None, item(NOW), [NOW], []),
        (item(NOW), None, [], [NOW]),
        (item(NOW), item(NOW + 1), [NOW + 1], [NOW]),
        (item(NOW), item(), [], [NOW]),
        (item(), item(NOW), [NOW], []),
        (item(NOW), item(NOW), [NOW], []),
        (item(), item(), [], []),
        (None, item(), [], []),
    ],
)
def test_a_change_moves_the_row(old, new, written, removed):
    rows = expiry_rows(document(), old, new, ROW)
    assert [key for key, value in rows if value == b""] == [expiry_row(ROW, at) for at in written]
    assert [key for key, value in rows if value is None] == [expiry_row(ROW, at) for at in removed]


def test_there_are_no_rows_without_time_to_live():
    assert expiry_rows(document(enabled=False), None, item(NOW), ROW) == []
    plain = document().model_copy(update={"time_to_live": None})
    assert expiry_rows(plain, None, item(NOW), ROW) == []


def test_due_is_what_is_past_but_not_older_than_five_years():
    start, end = due_rows(ID, NOW)
    assert not start <= expiry_row(ROW, NOW + 1) < end
    assert start <= expiry_row(ROW, NOW) < end
    assert start <= expiry_row(ROW, NOW - OLDEST_EXPIRY_S) < end
    assert not start <= expiry_row(ROW, NOW - OLDEST_EXPIRY_S - 1) < end


def test_the_state_is_among_the_rows_and_never_due():
    assert state_row(ID).startswith(table_rows(ID))
    assert state_row(ID) < due_rows(ID, 0)[0]


def test_a_table_names_its_expiry_rows_among_what_goes_with_it():
    assert table_rows(ID) in TABLE.prefixes()
    assert table_rows(ID) not in Table(document(enabled=False)).prefixes()
