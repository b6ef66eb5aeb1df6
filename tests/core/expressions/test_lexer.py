from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.expressions.lexer import tokenize


def texts(expression):
    return [token.text for token in tokenize(expression)]


def kinds(expression):
    return [token.kind for token in tokenize(expression)]


def test_tokens_of_each_kind():
    assert kinds("a #n :v 10 <= ! ") == [
        "name",
        "alias",
        "value",
        "number",
        "symbol",
        "unknown",
        "end",
    ]


def test_longest_comparator_wins():
    assert texts("a<>b<=c>=d<e>f=g")[1:12:2] == ["<>", "<=", ">=", "<", ">", "="]


def test_a_number_has_no_leading_zero():
    assert texts("2021-03-03") == ["2021", "-", "0", "3", "-", "0", "3", "<EOF>"]


def test_an_underscore_begins_no_name_but_a_placeholder():
    assert texts("_a b_ #_ :_") == ["_", "a", "b_", "#_", ":_", "<EOF>"]


def test_a_lone_sign_is_no_placeholder():
    assert kinds("# :") == ["unknown", "unknown", "end"]


@given(st.text())
def test_only_white_space_is_between_tokens(text):
    end = 0
    for token in tokenize(text):
        assert not text[end : token.start].strip(" \t\r\n\f")
        assert token.kind == "end" or text[token.start : token.end] == token.text
        end = token.end
