"""An expression printed and parsed again means the same."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.expressions import nodes
from streamtable.core.expressions.nodes import Alias, Call, Path, ValueRef, show_path, show_value
from streamtable.core.expressions.parser import parse_condition, parse_projection, parse_update

names = st.sampled_from(["a", "b2", "c_c", "Zebra"]) | st.sampled_from(["#n", "#0", "#_"]).map(
    Alias
)
indexes = st.integers(0, 30)
paths = st.builds(
    lambda first, others: Path((first, *others)), names, st.lists(names | indexes, max_size=3)
)
refs = st.sampled_from([":v", ":0", ":w_w"]).map(ValueRef)
sizes = st.builds(lambda operand: Call("size", (operand,)), paths | refs)
operands = paths | refs | sizes


def calls(function, *arguments):
    return st.builds(Call, st.just(function), st.tuples(*arguments))


simple_conditions = st.one_of(
    st.builds(nodes.Compare, st.sampled_from(sorted(nodes.COMPARATORS)), operands, operands),
    st.builds(nodes.Between, operands, operands, operands),
    st.builds(nodes.In, operands, st.lists(operands, min_size=1, max_size=3).map(tuple)),
    calls("attribute_exists", paths),
    calls("contains", paths, operands),
)
conditions = st.recursive(
    simple_conditions,
    lambda inner: st.one_of(
        st.builds(nodes.Not, inner),
        st.builds(nodes.And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(nodes.Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=12,
)

update_operands = st.recursive(
    paths | refs,
    lambda inner: calls("if_not_exists", paths, inner) | calls("list_append", inner, inner),
    max_leaves=4,
)
arithmetic = st.builds(
    nodes.Arithmetic, st.sampled_from(["+", "-"]), update_operands, update_operands
)
sections: st.SearchStrategy[Any] = st.tuples(
    st.lists(st.builds(nodes.SetAction, paths, update_operands | arithmetic), max_size=2),
    st.lists(st.builds(nodes.RemoveAction, paths), max_size=2),
    st.lists(st.builds(nodes.AddAction, paths, refs), max_size=2),
    st.lists(st.builds(nodes.DeleteAction, paths, refs), max_size=2),
).flatmap(st.permutations)
updates = (
    sections.map(lambda lists: tuple(itertools.chain.from_iterable(lists)))
    .filter(bool)
    .map(nodes.UpdateNode)
)


@given(conditions)
def test_conditions(node):
    assert parse_condition(str(node)).node == node


@given(updates)
def test_updates(node):
    assert parse_update(str(node)).node == node


@given(st.lists(paths, min_size=1, max_size=4).map(tuple).map(nodes.ProjectionNode))
def test_projections(node):
    assert parse_projection(str(node)).node == node


def test_paths_in_messages():
    assert show_path(("a", "b", 0)) == "[a, b, [0]]"


def test_values_in_messages():
    assert show_value({"N": "5"}) == "AttributeValue: {N:5}"
    assert show_value({"SS": ["a", "b"]}) == "AttributeValue: {SS:[a, b]}"
    assert show_value({"BOOL": True}) == "AttributeValue: {BOOL:true}"
    assert show_value({"M": {"a": {"L": [{"S": "x"}]}}}) == "AttributeValue: {M:{a={L:[{S:x}]}}}"


def test_a_literal_is_shown_as_its_value():
    node = nodes.Compare("=", Path(("a",)), nodes.Literal({"S": "x"}))
    assert str(node) == "a = AttributeValue: {S:x}"
