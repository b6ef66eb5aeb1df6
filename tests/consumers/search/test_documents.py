import hashlib
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.consumers.search.documents import MAX_ID_BYTES, document_id, item_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def test_the_id_of_a_partition_key_is_its_text():
    assert document_id({"id": {"S": "a|b\\c"}}) == "a|b\\c"
    assert document_id({"id": {"N": "-1.5"}}) == "-1.5"
    assert document_id({"id": {"B": "AAE="}}) == "AAE="


def test_the_id_of_two_keys_has_both():
    assert document_id({"owner": {"S": "ann"}, "n": {"N": "7"}}) == "ann|7"
    assert document_id({"owner": {"S": "a|b"}, "n": {"S": "c\\"}}) == "a\\|b|c\\\\"


@given(st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS))
def test_two_keys_never_share_an_id(first, second):
    def made(pair):
        return document_id({"a": {"S": pair[0]}, "b": {"S": pair[1]}})

    assert (made(first) == made(second)) == (first == second)


def test_a_long_key_is_hashed_and_so_is_what_looks_like_a_hash():
    longest = "ä" * (MAX_ID_BYTES // 2)
    assert document_id({"id": {"S": longest}}) == longest
    digest = hashlib.sha256(f"{longest}a".encode()).hexdigest()
    assert document_id({"id": {"S": f"{longest}a"}}) == f"sha256:{digest}"
    assert document_id({"id": {"S": f"sha256:{digest}"}}) != f"sha256:{digest}"


def test_an_item_is_its_document():
    item: dict[str, dict[str, Any]] = {
        "s": {"S": "x"},
        "i": {"N": "12"},
        "f": {"N": "0.1"},
        "huge": {"N": "1" + "0" * 30},
        "edge": {"N": str(2**63 - 1)},
        "b": {"B": "AAE="},
        "t": {"BOOL": True},
        "z": {"NULL": True},
        "ns": {"NS": ["1", "2.5"]},
        "l": {"L": [{"M": {"k": {"N": "-3"}}}]},
    }
    found = item_json(item, None)
    assert found is not None
    assert orjson.loads(found) == {
        "s": "x",
        "i": 12,
        "f": 0.1,
        "huge": 1e30,
        "edge": 2**63 - 1,
        "b": "AAE=",
        "t": True,
        "z": None,
        "ns": [1, 2.5],
        "l": [{"k": -3}],
    }


def test_a_function_makes_the_document_or_none():
    item = {"id": {"S": "a"}}
    assert item_json(item, lambda found: {"name": found["id"]["S"]}) == b'{"name":"a"}'
    assert item_json(item, lambda _: None) is None
    with pytest.raises(TypeError, match="a document is a dict or None, not list"):
        item_json(item, lambda _: [1])
    with pytest.raises(TypeError):
        item_json(item, lambda _: {"n": Decimal(1)})
