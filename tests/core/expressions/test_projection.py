import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.expressions.projection import Projection, bind_projection
from streamtable.core.values import Item

ITEM: Item = {
    "id": {"S": "1"},
    "tags": {"L": [{"S": "t0"}, {"S": "t1"}, {"S": "t2"}]},
    "info": {"M": {"x": {"N": "1"}, "y": {"N": "2"}}},
    "a.b": {"S": "dotted"},
}


def project(text, names=None):
    return bind_projection(text, Placeholders(names)).project(ITEM)


def test_whole_attributes():
    assert project("id, info, absent") == {"id": ITEM["id"], "info": ITEM["info"]}


def test_a_list_is_compact_and_in_order():
    assert project("tags[2], tags[9], tags[0]") == {"tags": {"L": [{"S": "t0"}, {"S": "t2"}]}}


def test_parts_of_a_map():
    assert project("info.y, info.z") == {"info": {"M": {"y": {"N": "2"}}}}


def test_a_placeholder_may_have_a_dot():
    assert project("#ab", {"#ab": "a.b"}) == {"a.b": {"S": "dotted"}}


def test_an_undefined_placeholder():
    with pytest.raises(ValidationError) as caught:
        project("info.#x")
    assert caught.value.message == (
        "Invalid ProjectionExpression: An expression attribute name used in the document path is "
        "not defined; attribute name: #x"
    )


def test_overlap_through_placeholders():
    with pytest.raises(ValidationError) as caught:
        project("#i, info.x", {"#i": "info"})
    assert caught.value.message == (
        "Invalid ProjectionExpression: Two document paths overlap with each other; must remove or "
        "rewrite one of these paths; path one: [info], path two: [info, x]"
    )


def test_which_attributes_it_has_something_of():
    projection = bind_projection("info.x, id", Placeholders())
    assert set(projection.paths) == {"info", "id"}


def test_of_attributes():
    assert Projection.of_attributes(["a.b", "absent"]).project(ITEM) == {"a.b": ITEM["a.b"]}
