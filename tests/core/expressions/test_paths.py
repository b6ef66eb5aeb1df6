import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.paths import LEAF, build_tree, find, project
from streamtable.core.values import Item

ITEM: Item = {
    "a": {"M": {"b": {"L": [{"N": "0"}, {"M": {"c": {"S": "x"}}}]}, "d": {"S": "y"}}},
    "s": {"S": "z"},
}


def tree(*paths):
    return build_tree([(path, LEAF) for path in paths], "Invalid X: ")


def test_find():
    assert find(ITEM, ("s",)) == {"S": "z"}
    assert find(ITEM, ("a", "b", 1, "c")) == {"S": "x"}


@pytest.mark.parametrize(
    "path", [("n",), ("n", "a"), ("s", "a"), ("s", 0), ("a", 0), ("a", "b", "c"), ("a", "b", 2)]
)
def test_find_nothing(path):
    assert find(ITEM, path) is None


@pytest.mark.parametrize(
    ("one", "two", "verb", "shown"),
    [
        (("a",), ("a",), "overlap", "[a], path two: [a]"),
        (("a",), ("a", "b"), "overlap", "[a], path two: [a, b]"),
        (("a", "b"), ("a",), "overlap", "[a, b], path two: [a]"),
        (("a", 0), ("a", 0, "b"), "overlap", "[a, [0]], path two: [a, [0], b]"),
        (("a", "b"), ("a", 0), "conflict", "[a, b], path two: [a, [0]]"),
        (("a", 0, "c"), ("a", "b", "c"), "conflict", "[a, [0], c], path two: [a, b, c]"),
    ],
)
def test_paths_that_do_not_go_together(one, two, verb, shown):
    with pytest.raises(ValidationError) as caught:
        tree(("z",), one, two)
    assert caught.value.message == (
        f"Invalid X: Two document paths {verb} with each other; must remove or rewrite one of "
        f"these paths; path one: {shown}"
    )


def test_paths_that_go_together():
    assert tree(("a", "b"), ("a", "c"), ("d", 0), ("d", 1, "b")) == {
        "a": {"b": LEAF, "c": LEAF},
        "d": {0: LEAF, 1: {"b": LEAF}},
    }


def test_project_keeps_the_way_to_what_is_found():
    assert project(ITEM, tree(("a", "b", 1, "c"), ("s",), ("n",))) == {
        "a": {"M": {"b": {"L": [{"M": {"c": {"S": "x"}}}]}}},
        "s": {"S": "z"},
    }


@pytest.mark.parametrize("path", [("a", "n"), ("a", "b", 7), ("a", 0), ("s", "n"), ("s", 0)])
def test_project_leaves_out_what_leads_to_nothing(path):
    assert project(ITEM, tree(path)) == {}
