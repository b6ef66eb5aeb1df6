import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtable.core.errors import ApiError, ValidationError
from streamtable.core.expressions.nodes import (
    AddAction,
    And,
    Arithmetic,
    Between,
    Call,
    Compare,
    DeleteAction,
    In,
    Literal,
    Not,
    Or,
    Path,
    RemoveAction,
    SetAction,
    ValueRef,
)
from streamtable.core.partiql.parser import parse_statement
from streamtable.core.partiql.statements import Delete, Exists, Insert, Order, Select, Update
from streamtable.core.partiql.templates import Constant, ListOf, MapOf, Parameter, SetOf

MALFORMED = "Statement wasn't well formed, can't be processed: "


def where(text):
    statement = parse_statement(f"SELECT * FROM music WHERE {text}").statement
    assert isinstance(statement, Select)
    return statement.where


def refused(text):
    with pytest.raises(ValidationError) as caught:
        parse_statement(text)
    return caught.value.message


def number(text):
    return Literal({"N": text})


def string(text):
    return Literal({"S": text})


def path(*elements):
    return Path(elements)


def test_the_parts_of_a_select():
    parsed = parse_statement(
        'select Artist, a.b[0]."c d" from "my-table"."by-year" where "Artist" = ? '
        "order by Artist desc, SongTitle;"
    )
    assert parsed.statement == Select(
        columns=(path("Artist"), path("a", "b", 0, "c d")),
        table="my-table",
        index="by-year",
        where=Compare("=", path("Artist"), ValueRef("?0")),
        order=(Order("Artist", descending=True), Order("SongTitle", descending=False)),
    )
    assert parsed.parameters == 1
    assert parsed.templates == (Parameter(0),)
    assert parsed.reads


def test_words_are_keywords_in_any_case_and_names_keep_theirs():
    statement = parse_statement("SeLeCt * fRoM Music").statement
    assert statement == Select(None, "Music", None, None, ())


def test_comments_are_skipped():
    statement = parse_statement("SELECT * -- all of it\nFROM /* which? */ music").statement
    assert statement == Select(None, "music", None, None, ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it''s'", {"S": "it's"}),
        ("''", {"S": ""}),
        ("1.50", {"N": "1.5"}),
        ("1e2", {"N": "100"}),
        ("-5", {"N": "-5"}),
        (".5", {"N": "0.5"}),
        ("true", {"BOOL": True}),
        ("False", {"BOOL": False}),
        ("NULL", {"NULL": True}),
        ("[1, 'a', []]", {"L": [{"N": "1"}, {"S": "a"}, {"L": []}]}),
        ("{'a': {'b': 1}}", {"M": {"a": {"M": {"b": {"N": "1"}}}}}),
        ("{}", {"M": {}}),
        ("<<1, 2.0>>", {"NS": ["1", "2"]}),
        ("<<'a','b'>>", {"SS": ["a", "b"]}),
    ],
)
def test_values(text, value):
    assert where(f"a = {text}") == Compare("=", path("a"), Literal(value))


@pytest.mark.parametrize("operator", ["=", "<>", "<", "<=", ">", ">="])
def test_comparators(operator):
    assert where(f"a {operator} 1") == Compare(operator, path("a"), number("1"))


def test_both_signs_for_unequal():
    assert where("a != 1") == where("a <> 1")


def test_and_binds_stronger_than_or_and_not_stronger_than_both():
    a, b, c = (Compare("=", path(name), number("1")) for name in "abc")
    assert where("a = 1 OR b = 1 AND NOT c = 1") == Or((a, And((b, Not(c)))))
    assert where("(a = 1 OR b = 1) AND c = 1") == And((Or((a, b)), c))
    assert where("a = 1 AND (b = 1 AND c = 1)") == And((a, b, c))
    assert where("not not a = 1") == a


def test_ranges_and_choices():
    assert where("a BETWEEN 1 AND 2 AND b = 1") == And(
        (Between(path("a"), number("1"), number("2")), Compare("=", path("b"), number("1")))
    )
    one_or_two = In(path("a"), (number("1"), number("2")))
    for text in ("[1, 2]", "(1, 2)", "<<1, 2>>"):
        assert where(f"a IN {text}") == one_or_two
    assert where("a NOT IN [1, 2]") == Not(one_or_two)
    assert where("a NOT BETWEEN 1 AND 2") == Not(Between(path("a"), number("1"), number("2")))


def test_missing_and_types():
    a = path("a", "b")
    assert where("a.b IS MISSING") == Call("attribute_not_exists", (a,))
    assert where("a.b is not missing") == Call("attribute_exists", (a,))
    null = Call("attribute_type", (a, string("NULL")))
    assert where("a.b IS NULL") == null
    assert where("a.b IS NOT NULL") == Not(null)
    assert where("a.b IS STRING") == Call("attribute_type", (a, string("S")))


def test_functions_in_any_case():
    a = path("a")
    assert where("BEGINS_WITH(a, 'x')") == Call("begins_with", (a, string("x")))
    assert where("Contains(\"a\", 'x')") == Call("contains", (a, string("x")))
    assert where("attribute_type(a, 'S')") == Call("attribute_type", (a, string("S")))
    assert where("size(a) > 3") == Compare(">", Call("size", (a,)), number("3"))


def test_a_bracket_names_a_member_too():
    assert where("a['b'][1] = 1") == Compare("=", path("a", "b", 1), number("1"))


def test_an_insert_keeps_its_parameters_in_place():
    parsed = parse_statement("INSERT INTO t value {'a': 1, 'b': [?, 'x'], 'c': <<?>>}")
    assert parsed.statement == Insert(
        "t",
        MapOf(
            (
                ("a", Constant({"N": "1"})),
                ("b", ListOf((Parameter(0), Constant({"S": "x"})))),
                ("c", SetOf((Parameter(1),))),
            )
        ),
    )
    assert parsed.parameters == 2
    assert not parsed.reads


def test_an_update_has_any_number_of_clauses():
    statement = parse_statement(
        "UPDATE t SET a = 1, b = a + 2 - ? SET c.d = list_append(if_not_exists(c.d, []), [1]) "
        "SET e = set_add(e, <<1>>) SET f = SET_DELETE(f, ?) REMOVE g[1] REMOVE h "
        "WHERE id = 'x' RETURNING MODIFIED NEW *"
    ).statement
    assert isinstance(statement, Update)
    assert statement.returning == "UPDATED_NEW"
    assert statement.where == Compare("=", path("id"), string("x"))
    empty, one = Literal({"L": []}), Literal({"L": [{"N": "1"}]})
    default = Call("if_not_exists", (path("c", "d"), empty))
    assert statement.actions.actions == (
        SetAction(path("a"), number("1")),
        SetAction(
            path("b"),
            Arithmetic("-", Arithmetic("+", path("a"), number("2")), ValueRef("?0")),
        ),
        SetAction(path("c", "d"), Call("list_append", (default, one))),
        AddAction(path("e"), Literal({"NS": ["1"]})),
        DeleteAction(path("f"), ValueRef("?1")),
        RemoveAction(path("g", 1)),
        RemoveAction(path("h")),
    )


@pytest.mark.parametrize(
    ("words", "returning"),
    [
        ("ALL OLD", "ALL_OLD"),
        ("all new", "ALL_NEW"),
        ("MODIFIED OLD", "UPDATED_OLD"),
        ("modified NEW", "UPDATED_NEW"),
    ],
)
def test_returning(words, returning):
    statement = parse_statement(f"UPDATE t REMOVE a WHERE id=1 RETURNING {words} *").statement
    assert isinstance(statement, Update)
    assert statement.returning == returning


def test_a_delete_returns_the_old_item_or_nothing():
    statement = parse_statement("DELETE FROM t WHERE id = 1 RETURNING ALL OLD *").statement
    assert statement == Delete("t", Compare("=", path("id"), number("1")), "ALL_OLD")
    message = refused("DELETE FROM t WHERE id = 1 RETURNING ALL NEW *")
    assert message == "ReturnValues can only be ALL_OLD or NONE"


def test_exists():
    parsed = parse_statement("EXISTS(SELECT * FROM t WHERE id = 1 AND a > 2)")
    assert isinstance(parsed.statement, Exists)
    assert parsed.statement.table == "t"
    assert not parsed.reads


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expected data manipulation"),
        ("DESCRIBE t", "Expected data manipulation"),
        ("UPDATE my-table SET a = 1 WHERE id = 1", "Expected data manipulation"),
        ("SELECT * FROM", "Expected identifier for simple path"),
        ("SELECT * FROM 't'", "Expected identifier for simple path"),
        ("SELECT FROM t", "Unexpected keyword"),
        ("SELECT * FROM t WHERE", "Unexpected end of statement"),
        ("SELECT * FROM t WHERE a", "Unexpected end of statement"),
        ("SELECT * FROM t WHERE a = 'x", "Unexpected token"),
        ("SELECT * FROM t WHERE a = 1 /* and", "Unexpected token"),
        ("SELECT * FROM t WHERE a = 1 b", "Unexpected token"),
        ("SELECT * FROM t WHERE select = 1", "Unexpected keyword"),
        ("INSERT INTO t VALUES {'a': 1}", "Unexpected keyword"),
        ("INSERT INTO t (a) VALUES (1)", "Unexpected token"),
        ("INSERT INTO t VALUE {a: 1}", "Unexpected token"),
        ('INSERT INTO "t"."i" VALUE {\'a\': 1}', "Unexpected path component"),
        ("DELETE t WHERE a = 1", "Unexpected token"),
        ("DELETE FROM t WHERE a = 1 RETURNING ALL OLD", "Unexpected end of statement"),
    ],
)
def test_what_is_not_well_formed(text, reason):
    assert refused(text) == MALFORMED + reason


@pytest.mark.parametrize("words", ["", "VALUE "])
def test_an_insert_is_of_one_item(words):
    assert refused(f"INSERT INTO t {words}<<{{'a': 1}}, {{'a': 2}}>>") == (
        "Unsupported operation: Inserting multiple items in a single statement is not supported, "
        'use "INSERT INTO tableName VALUE item" instead'
    )


@pytest.mark.parametrize("clause", ["LIMIT 1", "GROUP BY a", "JOIN u", "AS x"])
def test_clauses_that_dynamodb_does_not_have(clause):
    assert refused(f"SELECT * FROM t {clause}") == f"Unsupported clause: {clause.split()[0]}"


def test_functions_that_are_not_there_or_used_wrongly():
    select = "SELECT * FROM t WHERE "
    assert refused(select + "upper(a) = 'A'") == "Invalid function name; function: upper"
    assert refused(select + "contains(a)").endswith("contains, number of operands: 1")
    assert "not allowed to be used this way" in refused(select + "a = contains(a, 'x')")
    assert "can only be used as a statement" in refused(select + "EXISTS(SELECT * FROM t)")
    update = "UPDATE t SET a = "
    assert refused(update + "set_add(b, <<1>>)") == (
        "set_add must change the attribute that it reads: a"
    )
    assert refused(update + "if_not_exists(1, 2)").endswith("function: if_not_exists")


def test_limits_on_choices_operators_and_nesting():
    choices = ", ".join(map(str, range(101)))
    assert refused(f"SELECT * FROM t WHERE a IN [{choices}]").endswith("operands: 101")
    many = " OR ".join(["a = 1"] * 160)
    assert refused(f"SELECT * FROM t WHERE {many}").endswith("operator count: 301")
    deepest = "[" * 32 + "]" * 32
    assert where(f"a = {deepest}") is not None
    assert "Nesting Levels have exceeded" in refused(f"SELECT * FROM t WHERE a = [{deepest}]")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t WHERE " + "(" * 8000,
        "SELECT * FROM t WHERE " + "size(" * 1600,
        "SELECT * FROM t WHERE " + "NOT " * 2000 + "a = 1",
        "SELECT * FROM t WHERE a" + "[0]" * 2700 + " = 1",
        "SELECT * FROM t WHERE a[" + "9" * 8000 + "] = 1",
        "UPDATE t SET a = " + "(" * 8000,
        "UPDATE t SET a = " + "list_append(" * 600,
        "UPDATE t SET a = 1" + " + 1" * 2000 + " WHERE id = 1",
        "INSERT INTO t VALUE {'a': " + "[" * 8000,
        "INSERT INTO t VALUE " + "{'a':" * 1600,
        "SELECT " + "/*" * 4000,
        "SELECT " + "'" * 8001,
        "EXISTS(" * 1000,
    ],
)
def test_hostile_statements_are_refused(text):
    refused(text)


_WORDS = [
    *("SELECT", "FROM", "WHERE", "UPDATE", "SET", "REMOVE", "INSERT", "INTO", "VALUE", "DELETE"),
    *("AND", "OR", "NOT", "IN", "BETWEEN", "IS", "MISSING", "ORDER", "BY", "RETURNING", "ALL"),
    *("OLD", "t", '"i"', ".", ",", "(", ")", "[", "]", "{", "}", "<<", ">>", "=", "<", "+", "-"),
    *("?", "'s'", "1", "*", ":", ";", "size", "set_add", "EXISTS", "\x00", "é"),
]


@given(st.lists(st.sampled_from(_WORDS), max_size=25))
@settings(max_examples=300)
def test_any_words_are_a_statement_or_refused(words):
    try:
        parsed = parse_statement(" ".join(words))
    except ApiError:
        return
    assert parsed.parameters == words.count("?")
