import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.expressions.nodes import (
    AddAction,
    Alias,
    And,
    Arithmetic,
    Between,
    Call,
    Compare,
    DeleteAction,
    In,
    Not,
    Or,
    Path,
    RemoveAction,
    SetAction,
    ValueRef,
)
from streamtable.core.expressions.parser import parse_condition, parse_projection, parse_update


def path(*elements):
    return Path(elements)


A, B, C = (Compare("=", path(name), ValueRef(":v")) for name in "abc")


def condition(text):
    return parse_condition(text).node


def actions(text):
    return parse_update(text).node.actions


def refuse(parse, text, *arguments):
    with pytest.raises(ValidationError) as caught:
        parse(text, *arguments)
    return caught.value.message


class TestConditions:
    def test_and_binds_stronger_than_or(self):
        assert condition("a=:v OR b=:v AND c=:v") == Or((A, And((B, C))))
        assert condition("a=:v AND b=:v OR c=:v") == Or((And((A, B)), C))

    def test_not_binds_stronger_than_and(self):
        assert condition("NOT a=:v AND b=:v") == And((Not(A), B))

    def test_not_binds_weaker_than_a_comparison(self):
        assert condition("NOT a = :v") == Not(A)
        assert condition("not not a = :v") == Not(Not(A))

    def test_parentheses_keep_together(self):
        assert condition("(a=:v OR b=:v) AND c=:v") == And((Or((A, B)), C))
        assert condition("NOT (a=:v OR b=:v)") == Not(Or((A, B)))
        assert condition("a=:v AND (b=:v AND c=:v)") == And((A, And((B, C))))

    def test_chains_are_flat(self):
        assert condition("a=:v AND b=:v AND c=:v") == And((A, B, C))

    def test_keywords_in_any_case(self):
        assert condition("a BeTween :v aNd :w") == Between(
            path("a"), ValueRef(":v"), ValueRef(":w")
        )
        assert condition("a iN (:v,:w)") == In(path("a"), (ValueRef(":v"), ValueRef(":w")))

    def test_and_of_between_is_not_a_conjunction(self):
        between = Between(path("a"), ValueRef(":v"), ValueRef(":w"))
        assert condition("a BETWEEN :v AND :w AND b=:v") == And((between, B))

    def test_operands_in_parentheses(self):
        assert condition("( ( size ( a )) < b.c ) AND (b = :v)") == And(
            (Compare("<", Call("size", (path("a"),)), path("b", "c")), B)
        )
        assert condition("a = (:v)") == A

    def test_paths(self):
        node = condition("#n.a[0][12].#m = :v")
        assert node.left == path(Alias("#n"), "a", 0, 12, Alias("#m"))

    def test_what_placeholders_are_used(self):
        parsed = parse_condition("#n.a = :v OR contains(#n, :w)")
        assert parsed.names == {"#n"}
        assert parsed.values == {":v", ":w"}

    @pytest.mark.parametrize(
        ("text", "token", "near"),
        [
            ("a-b", "-", "a-b"),
            ("a", "<EOF>", "a"),
            ("a = ", "<EOF>", "="),
            ("  ", "<EOF>", ""),
            ("attribute_exists(a) AND NOT #has", "<EOF>", "#has"),
            ("a IN ()", ")", "()"),
            ("a IN :v", ":v", "IN :v"),
            ("tenant:abc123-4 = :v", ":abc123", "tenant:abc123-"),
            ("_type = :v", "_", "_type"),
            ("__typename <> :t", "_", "__"),
            ("a attribute_not_exists :v", "attribute_not_exists", "a attribute_not_exists :v"),
            ("!!! = :v", "!", "!!"),
            ("a = :v)", ")", ":v)"),
            ("(a = :v", "<EOF>", ":v"),
            ("(a = :v) = :w", "=", ") = :w"),
            ("a = b = c", "=", "b = c"),
            ("a AND b = :v", "AND", "a AND b"),
            ("(a) OR b = :v", "OR", ") OR b"),
            ("(NOT a)", ")", "a)"),
            ("a = :v b = :v", "b", ":v b ="),
            ("a[-1] = :v", "-", "[-1"),
            ("a[:v] = :v", ":v", "[:v]"),
            ("a[1 = :v", "=", "1 = :v"),
            ("a. = :v", "=", ". = :v"),
            ("a + :v = :v", "+", "a + :v"),
            ("size() = :v", ")", "() ="),
            ("size(a = :v", "=", "a = :v"),
            ("AND = :v", "AND", "AND ="),
            ("a BETWEEN :v OR :w", "OR", ":v OR :w"),
            ("a == :v", "=", "== :v"),
            ("a = 'x'", "'", "= 'x"),
            ("a = 5", "5", "= 5"),
            ("#a(b)", "(", "#a(b"),
        ],
    )
    def test_syntax_error(self, text, token, near):
        assert refuse(parse_condition, text) == (
            f'Invalid ConditionExpression: Syntax error; token: "{token}", near: "{near}"'
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "The expression can not be empty;"),
            ("a = :v" + " " * 4091, "Expression size has exceeded the maximum allowed size;"),
            ("name = :v", "Attribute name is a reserved keyword; reserved keyword: name"),
            ("a.Size = :v", "Attribute name is a reserved keyword; reserved keyword: Size"),
            ("foo(a)", "Invalid function name; function: foo"),
            ("SIZE(a) = :v", "Invalid function name; function: SIZE"),
            (
                "if_not_exists(a, :v) = :v",
                "The function is not allowed in a condition expression; function: if_not_exists",
            ),
            (
                "size(a)",
                "The function is not allowed to be used this way in an expression; function: size",
            ),
            (
                "attribute_exists(a) = :v",
                (
                    "The function is not allowed to be used this way in an expression; "
                    "function: attribute_exists"
                ),
            ),
            (
                "size(contains(a, :v)) = :v",
                (
                    "The function is not allowed to be used this way in an expression; "
                    "function: contains"
                ),
            ),
            (
                "size(a, b) = :v",
                (
                    "Incorrect number of operands for operator or function; "
                    "operator or function: size, number of operands: 2"
                ),
            ),
            (
                "begins_with(a)",
                (
                    "Incorrect number of operands for operator or function; "
                    "operator or function: begins_with, number of operands: 1"
                ),
            ),
            ("((a = :v))", "The expression has redundant parentheses;"),
            ("a = :v AND ((b = :v OR c = :v))", "The expression has redundant parentheses;"),
            ("NOT ((a = :v))", "The expression has redundant parentheses;"),
            ("((a)) = :v", "The expression has redundant parentheses;"),
            ("a = ((:v))", "The expression has redundant parentheses;"),
            (
                "a[2147483648] = :v",
                "List index is not within the allowable range; index: [2147483648]",
            ),
            (
                "a" + ".a" * 32 + " = :v",
                "The document path has too many nesting elements; nesting levels: 33",
            ),
            (
                f"a IN ({','.join([':v'] * 101)})",
                "The IN operator is provided with too many operands; number of operands: 101",
            ),
            (
                " OR ".join(["a=:v"] * 151),
                "The expression contains too many operators; operator count: 301",
            ),
        ],
    )
    def test_what_the_syntax_allows_and_dynamodb_does_not(self, text, message):
        assert refuse(parse_condition, text) == f"Invalid ConditionExpression: {message}"

    def test_syntax_errors_come_first(self):
        message = refuse(parse_condition, "name = :v AND")
        assert message == ('Invalid ConditionExpression: Syntax error; token: "<EOF>", near: "AND"')

    def test_limits_are_inclusive(self):
        condition(" OR ".join(["a=:v"] * 150))
        condition(f"a IN ({','.join([':v'] * 100)})")
        condition("a = :v" + " " * 4090)
        condition("a" + ".a" * 31 + " = :v")
        condition("a[2147483647] = :v")

    def test_the_parameter_is_named(self):
        assert refuse(parse_condition, "a", "FilterExpression").startswith(
            "Invalid FilterExpression: "
        )
        assert refuse(parse_condition, "list_append(a, b) = :v", "FilterExpression") == (
            "Invalid FilterExpression: The function is not allowed in a filter expression; "
            "function: list_append"
        )

    @pytest.mark.parametrize(
        "text",
        [
            "(" * 2040 + "a" + ")" * 2040 + "=:v",
            "a=" + "(" * 2040 + ":v" + ")" * 2040,
            "(" * 4096,
            "NOT " * 1000 + "a=:v",
            "NOT(" * 800 + "a=:v" + ")" * 800,
            "size(" * 600 + "a" + ")" * 600 + "=:v",
            "size(" * 800,
            "a=:v AND(" * 400 + "a=:v" + ")" * 400,
            "a" + "[0]" * 1300 + "=:v",
            "a[" + "9" * 4000 + "]=:v",
        ],
    )
    def test_no_text_breaks_the_parser(self, text):
        assert refuse(parse_condition, text).startswith("Invalid ConditionExpression: ")


class TestUpdates:
    def test_sections_in_any_order(self):
        assert actions("DELETE s :s set a = :v remove b, c[1] ADD n :n") == (
            DeleteAction(path("s"), ValueRef(":s")),
            SetAction(path("a"), ValueRef(":v")),
            RemoveAction(path("b")),
            RemoveAction(path("c", 1)),
            AddAction(path("n"), ValueRef(":n")),
        )

    def test_values_of_set(self):
        (action,) = actions("SET a = if_not_exists(b.c, :v) - list_append(:l, (d))")
        assert action.value == Arithmetic(
            "-",
            Call("if_not_exists", (path("b", "c"), ValueRef(":v"))),
            Call("list_append", (ValueRef(":l"), path("d"))),
        )

    @pytest.mark.parametrize("text", ["(a + :v)", "(a) + :v", "a + (:v)", "((a) + (:v))"])
    def test_parentheses(self, text):
        (action,) = actions(f"SET b = {text}")
        assert action.value == Arithmetic("+", path("a"), ValueRef(":v"))

    @pytest.mark.parametrize(
        ("text", "token", "near"),
        [
            ("a-b", "a", "a-"),
            ("ADD hits : incr", ":", "hits : incr"),
            ("set _something = :something", "_", "set _something"),
            ("SET a = :v, #, b = :v", "#", ", #,"),
            ("DELETE a :t undefined SET b = :v", "undefined", ":t undefined SET"),
            ("SET", "<EOF>", "SET"),
            ("SET a = :v,", "<EOF>", ","),
            ("SET a = :v b = :v", "b", ":v b ="),
            ("SET a = b + c + d", "+", "c + d"),
            ("SET a = (b + c) - d", "-", ") - d"),
            ("SET a = (b + c", "<EOF>", "c"),
            ("SET a :v", ":v", "a :v"),
            ("ADD a b", "b", "a b"),
            ("REMOVE a = :v", "=", "a = :v"),
            ("SET a = if_not_exists(b, c + d)", "+", "c + d"),
            ("SET set = :v", "set", "SET set ="),
        ],
    )
    def test_syntax_error(self, text, token, near):
        assert refuse(parse_update, text) == (
            f'Invalid UpdateExpression: Syntax error; token: "{token}", near: "{near}"'
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "The expression can not be empty;"),
            (
                "ADD x :v SET a = :v ADD y :v",
                'The "ADD" section can only be used once in an update expression;',
            ),
            (
                "set a = :v Set b = :v",
                'The "SET" section can only be used once in an update expression;',
            ),
            ("SET name = :v", "Attribute name is a reserved keyword; reserved keyword: name"),
            ("SET a = foo(b)", "Invalid function name; function: foo"),
            (
                "SET a = size(b)",
                "The function is not allowed in an update expression; function: size",
            ),
            (
                "SET a = if_not_exists(b)",
                (
                    "Incorrect number of operands for operator or function; "
                    "operator or function: if_not_exists, number of operands: 1"
                ),
            ),
            ("SET a = ((b))", "The expression has redundant parentheses;"),
            ("SET a = ((b + :v))", "The expression has redundant parentheses;"),
        ],
    )
    def test_what_the_syntax_allows_and_dynamodb_does_not(self, text, message):
        assert refuse(parse_update, text) == f"Invalid UpdateExpression: {message}"

    @pytest.mark.parametrize(
        "text",
        [
            "SET a = " + "(" * 4000,
            "SET a = " + "(" * 2000 + "b" + ")" * 2000,
            "SET a = " + "list_append(a," * 250 + "a" + ")" * 249,
        ],
    )
    def test_no_text_breaks_the_parser(self, text):
        assert refuse(parse_update, text).startswith("Invalid UpdateExpression: ")


class TestProjections:
    def test_paths(self):
        assert parse_projection("a.b[0] , #c").node.paths == (path("a", "b", 0), path("#c"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "The expression can not be empty;"),
            ("!!!", 'Syntax error; token: "!", near: "!!"'),
            ("dummy-id", 'Syntax error; token: "-", near: "dummy-id"'),
            ("m.#D_2021-03-03", 'Syntax error; token: "-", near: "#D_2021-0"'),
            ("a,", 'Syntax error; token: "<EOF>", near: ","'),
            ("a b", 'Syntax error; token: "b", near: "a b"'),
            ("a, :v", 'Syntax error; token: ":v", near: ", :v"'),
            ("a, Path", "Attribute name is a reserved keyword; reserved keyword: Path"),
            ("a, set", "Attribute name is a reserved keyword; reserved keyword: set"),
        ],
    )
    def test_refused(self, text, message):
        assert refuse(parse_projection, text) == f"Invalid ProjectionExpression: {message}"


def test_a_text_is_parsed_once():
    assert parse_update("SET parsed_once = :v") is parse_update("SET parsed_once = :v")
