import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.expressions.update import bind_update
from streamtable.core.values import Item, Value, parse_item

ITEM: Item = {
    "pk": {"S": "key"},
    "n": {"N": "10"},
    "s": {"S": "text"},
    "ss": {"SS": ["a", "b"]},
    "ns": {"NS": ["1", "2"]},
    "l": {"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}, {"N": "3"}]},
    "m": {"M": {"x": {"N": "1"}, "l": {"L": [{"M": {"y": {"S": "z"}}}]}}},
}
VALUES: Item = {
    ":one": {"N": "1"},
    ":half": {"N": "0.5"},
    ":ten": {"N": "10.0"},
    ":s": {"S": "new"},
    ":text": {"S": "text"},
    ":ab": {"SS": ["b", "a"]},
    ":bc": {"SS": ["b", "c"]},
    ":n23": {"NS": ["2", "3"]},
    ":l": {"L": [{"S": "p"}, {"S": "q"}]},
    ":m": {"M": {"k": {"S": "v"}}},
    ":true": {"BOOL": True},
}


NOT_THERE = "The provided expression refers to an attribute that does not exist in the item"
WRONG_TYPE = "An operand in the update expression has an incorrect data type"
NO_PATH = "The document path provided in the update expression is invalid for update"
OPERAND = "Incorrect operand type for operator or function; "
REWRITE = "with each other; must remove or rewrite one of these paths; path one: "
OVERLAP = f"Two document paths overlap {REWRITE}"
CONFLICT = f"Two document paths conflict {REWRITE}"
M = ITEM["m"]["M"]


def bound(text, names=None, values=VALUES):
    return bind_update(text, Placeholders(names, values))


def changed(text, item=ITEM):
    """Return what the update changes in the item, None for what it removes."""
    before = copy.deepcopy(item)
    after = bound(text).apply(item)
    assert item == before, "the item was changed in place"
    return {name: after.get(name) for name in item | after if after.get(name) is not item.get(name)}


def numbers(*texts):
    return {"L": [{"N": text} for text in texts]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SET s = :s", {"s": {"S": "new"}}),
        ("SET fresh = n", {"fresh": {"N": "10"}}),
        ("SET n = n + :one", {"n": {"N": "11"}}),
        ("SET n = :one - n", {"n": {"N": "-9"}}),
        (
            "SET n = n + m.x, m.x = n",
            {"n": {"N": "11"}, "m": {"M": M | {"x": {"N": "10"}}}},
        ),
        ("SET c = if_not_exists(c, :one) + :half", {"c": {"N": "1.5"}}),
        ("SET n = if_not_exists(n, :one) + :half", {"n": {"N": "10.5"}}),
        ("SET c = if_not_exists(c, if_not_exists(d, s))", {"c": {"S": "text"}}),
        ("SET l = list_append(:l, l)", {"l": {"L": VALUES[":l"]["L"] + ITEM["l"]["L"]}}),
        ("SET c = list_append(if_not_exists(c, :l), :l)", {"c": {"L": VALUES[":l"]["L"] * 2}}),
        ("SET m.k = :s", {"m": {"M": M | {"k": {"S": "new"}}}}),
        (
            "SET m.l[0].y = :s",
            {"m": {"M": M | {"l": {"L": [{"M": {"y": {"S": "new"}}}]}}}},
        ),
        ("SET l[1] = :one, l[0] = l[3]", {"l": numbers("3", "1", "2", "3")}),
        ("SET l[9] = :half, l[7] = :one", {"l": numbers("0", "1", "2", "3", "1", "0.5")}),
        ("REMOVE s, absent", {"s": None}),
        ("REMOVE l[0], l[2], l[9]", {"l": numbers("1", "3")}),
        ("SET l[1] = :half REMOVE l[0]", {"l": numbers("0.5", "2", "3")}),
        ("SET l[6] = :half REMOVE l[0], l[3]", {"l": numbers("1", "2", "0.5")}),
        ("REMOVE m.l[0].y, m.x", {"m": {"M": {"l": {"L": [{"M": {}}]}}}}),
        ("REMOVE m.l[0]", {"m": {"M": {"x": {"N": "1"}, "l": {"L": []}}}}),
        ("ADD n :half, c :one", {"n": {"N": "10.5"}, "c": {"N": "1"}}),
        ("ADD ss :bc, cs :bc", {"ss": {"SS": ["a", "b", "c"]}, "cs": {"SS": ["b", "c"]}}),
        (
            "ADD ns :n23, m.x :one",
            {"ns": {"NS": ["1", "2", "3"]}, "m": {"M": M | {"x": {"N": "2"}}}},
        ),
        ("DELETE ss :bc, absent :bc", {"ss": {"SS": ["a"]}}),
        ("DELETE ss :ab", {"ss": None}),
        (
            "SET n = s REMOVE s ADD c :one DELETE ss :bc",
            {"n": {"S": "text"}, "s": None, "c": {"N": "1"}, "ss": {"SS": ["a"]}},
        ),
    ],
)
def test_apply(text, expected):
    assert changed(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "REMOVE absent, l[9], m.k",
        "SET s = :text",
        "SET n = :ten",
        "SET ss = :ab",
        "SET m.x = :one, l[1] = :one",
        "ADD ss :ab",
        "DELETE ns :n3",
        "DELETE absent :bc",
        "SET s = if_not_exists(s, :one)",
    ],
)
def test_the_same_object_where_nothing_changes(text):
    update = bound(text, None, VALUES | {":n3": {"NS": ["3"]}})
    assert update.apply(ITEM) is ITEM


def test_what_does_not_change_is_shared():
    after = bound("SET m.l[0].y = :s").apply(ITEM)
    assert after["l"] is ITEM["l"]
    assert after["m"]["M"]["x"] is ITEM["m"]["M"]["x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SET a = absent",
            NOT_THERE,
        ),
        (
            "SET a = absent + :one",
            NOT_THERE,
        ),
        (
            "SET a = l[4]",
            NOT_THERE,
        ),
        ("SET a = s + :one", WRONG_TYPE),
        (
            "SET a = list_append(s, :l)",
            WRONG_TYPE,
        ),
        ("ADD s :one", WRONG_TYPE),
        ("ADD n :bc", WRONG_TYPE),
        ("ADD ss :n23", WRONG_TYPE),
        ("DELETE s :bc", WRONG_TYPE),
        ("DELETE ns :bc", WRONG_TYPE),
        (
            "SET absent.a = :one",
            NO_PATH,
        ),
        (
            "SET s.a = :one",
            NO_PATH,
        ),
        (
            "SET m[0] = :one",
            NO_PATH,
        ),
        (
            "SET l.a = :one",
            NO_PATH,
        ),
        (
            "SET l[9].a = :one",
            NO_PATH,
        ),
        (
            "SET m.k.j = :one",
            NO_PATH,
        ),
        (
            "REMOVE absent.a",
            NO_PATH,
        ),
        (
            "ADD absent.a :one",
            NO_PATH,
        ),
    ],
)
def test_refused_for_the_item(text, message):
    update = bound(text)
    with pytest.raises(ValidationError) as caught:
        update.apply(ITEM)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SET #u = :s",
            (
                "An expression attribute name used in the document path is not defined; "
                "attribute name: #u"
            ),
        ),
        (
            "SET a = b + :u",
            "An expression attribute value used in expression is not defined; attribute value: :u",
        ),
        (
            "SET a = n + :s",
            OPERAND + "operator or function: +, operand type: S",
        ),
        (
            "SET a = list_append(l, l) - n",
            OPERAND + "operator or function: -, operand type: L",
        ),
        (
            "SET a = list_append(l, :m)",
            OPERAND + "operator or function: list_append, operand type: M",
        ),
        (
            "SET a = if_not_exists(:s, n)",
            "Operator or function requires a document path; operator or function: if_not_exists",
        ),
        (
            "ADD a :s",
            OPERAND + "operator: ADD, operand type: STRING, typeSet: ALLOWED_FOR_ADD_OPERAND",
        ),
        (
            "ADD a :l",
            OPERAND + "operator: ADD, operand type: LIST, typeSet: ALLOWED_FOR_ADD_OPERAND",
        ),
        (
            "DELETE a :m",
            OPERAND + "operator: DELETE, operand type: MAP, typeSet: ALLOWED_FOR_DELETE_OPERAND",
        ),
        (
            "DELETE a :one",
            OPERAND + "operator: DELETE, operand type: NUMBER, typeSet: ALLOWED_FOR_DELETE_OPERAND",
        ),
        (
            "SET a = :s, a = :one",
            OVERLAP + "[a], path two: [a]",
        ),
        (
            "SET a.b = :s REMOVE a",
            OVERLAP + "[a, b], path two: [a]",
        ),
        (
            "SET a.b = :s REMOVE a[1]",
            CONFLICT + "[a, b], path two: [a, [1]]",
        ),
    ],
)
def test_refused_whatever_the_item(text, message):
    with pytest.raises(ValidationError) as caught:
        bound(text)
    assert caught.value.message == f"Invalid UpdateExpression: {message}"


def test_the_key_can_not_be_updated():
    update = bound("SET s = :s, pk = :s")
    for refuse in (update.check_keys, lambda names: update.apply(ITEM, names)):
        with pytest.raises(ValidationError) as caught:
            refuse(("sk", "pk"))
        assert caught.value.message == (
            "One or more parameter values were invalid: Cannot update attribute pk. "
            "This attribute is part of the key"
        )
    bound("SET s = :s").check_keys(("pk",))


def test_an_item_that_does_not_exist_is_its_key():
    key = {"pk": {"S": "key"}}
    assert bound("ADD n :one SET s = :s").apply(key) == key | {"n": {"N": "1"}, "s": {"S": "new"}}


def test_updated_images():
    update = bound("SET m.x = :half, l[1] = :half, c = :s REMOVE s, m.l[0].y")
    assert update.updated_image(ITEM) == {
        "m": {"M": {"x": {"N": "1"}, "l": {"L": [{"M": {"y": {"S": "z"}}}]}}},
        "l": numbers("1"),
        "s": {"S": "text"},
    }
    assert update.updated_image(update.apply(ITEM)) == {
        "m": {"M": {"x": {"N": "0.5"}}},
        "l": numbers("0.5"),
        "c": {"S": "new"},
    }
    assert set(update.paths) == {"m", "l", "c", "s"}


def test_updates_can_not_nest_deeper_than_items():
    value: Value = {"S": "x"}
    for _ in range(31):
        value = {"L": [value]}
    bind_update("SET a = :deep", Placeholders(None, {":deep": value}))
    item: Item = {"pk": {"S": "key"}, "a": value, "m": {"M": {}}}
    for text in ("SET m.a = a", "SET a[0] = a"):
        with pytest.raises(ValidationError, match="Nesting Levels have exceeded"):
            bound(text).apply(item)
    bound("SET m.a = a[0], b = a").apply(item)


@pytest.mark.parametrize("function", ["if_not_exists(a,", "list_append(:l,"])
def test_the_deepest_updates_need_few_frames(function):
    depth = (4096 - 30) // (len(function) + 1)
    text = f"SET a = {function * depth}:l{')' * depth}"

    def below(frames):
        return below(frames - 1) if frames else bound(text).apply(ITEM)

    assert "L" in below(350)["a"]


names = st.sampled_from(["a", "b", "c"])
scalars = st.one_of(
    st.builds(lambda n: {"N": str(n)}, st.integers(-9, 9)),
    st.builds(lambda s: {"S": s}, st.sampled_from(["", "x", "y"])),
    st.builds(lambda s: {"SS": sorted(s)}, st.sets(st.sampled_from("xyz"), min_size=1)),
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(lambda m: {"M": m}, st.dictionaries(names, inner, max_size=3)),
        st.builds(lambda e: {"L": e}, st.lists(inner, max_size=3)),
    ),
    max_leaves=6,
)
paths = st.builds(
    lambda first, others: first + "".join(others),
    names,
    st.lists(names.map(".{}".format) | st.integers(0, 3).map("[{}]".format), max_size=2),
)
updates = st.lists(
    st.one_of(
        st.builds("SET {} = :v".format, paths),
        st.builds("SET {} = {}".format, paths, paths),
        st.builds("SET {} = if_not_exists({}, :v)".format, paths, paths),
        st.builds("REMOVE {}".format, paths),
        st.builds("ADD {} :v".format, paths),
        st.builds("DELETE {} :v".format, paths),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda text: text.split()[0],
).map(" ".join)


@given(st.dictionaries(names, documents), updates, documents)
def test_an_update_gives_an_item_and_leaves_the_old_one(item, text, value):
    before = copy.deepcopy(item)
    placeholders = Placeholders(None, {":v": value, ":unused": value})
    try:
        update = bind_update(text, placeholders)
        after = update.apply(item)
    except ValidationError:
        assert item == before
        return
    assert item == before
    canonical, _ = parse_item(after)
    assert canonical == after
    assert (after is item) or (after != item)
    assert bind_update(text, placeholders).updated_image(after).keys() <= after.keys()
