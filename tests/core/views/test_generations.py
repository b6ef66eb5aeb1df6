"""Which tables a view has, and what becomes of them."""

from itertools import count

import pytest

from streamtable.core.documents import TableDocument, ViewDocument
from streamtable.core.errors import ValidationError
from streamtable.core.views.generations import (
    find_leftovers,
    plan_generation,
    plan_placeholder,
    plan_swap,
    plan_values,
)

_NUMBERS = count(1)
STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}


def new_id():
    return f"00000000-0000-0000-0000-{next(_NUMBERS):012}"


def index(name, *keys):
    kinds = ("HASH", "RANGE")
    return {
        "IndexName": name,
        "KeySchema": [
            {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, kinds, strict=False)
        ],
        "Projection": {"ProjectionType": "ALL"},
    }


def body(*indexes, types=None, **more):
    types = types or {"day": "S", **({"total": "N"} if indexes else {})}
    found = {
        "TableName": "days",
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in types.items()
        ],
        "KeySchema": [{"AttributeName": "day", "KeyType": "HASH"}],
        **more,
    }
    if indexes:
        found["GlobalSecondaryIndexes"] = list(indexes)
    return found


def view(generation=1, **more):
    given = {"app": "shop", "name": "days", "kind": "view", "sources": ("orders",)}
    return ViewDocument(**given, generation=generation, **more)  # type: ignore[arg-type]


def generation(number=1, request=None, current=None, **more):
    return plan_generation(
        view(number, **more),
        request or body(index("by_total", "total")),
        current,
        region="local",
        account="000000000000",
        now=100.0,
        new_id=new_id,
    )


def in_force(built, current=None, now=200.0):
    return plan_swap(built, current or plan_placeholder(built, new_id), now=now, new_id=new_id)


def names(document):
    return [each.name for each in document.indexes]


def with_index(document, name, *keys, types):
    """A view to which a user has added an index."""
    other = generation(9, body(index(name, *keys), types={"day": "S", **types}))
    return document.model_copy(
        update={
            "indexes": (*document.indexes, *other.indexes),
            "attributes": {**document.attributes, **types},
        }
    )


class TestGeneration:
    def test_it_is_hidden_under_its_number(self):
        built = generation(3)
        assert (built.name, built.hidden, built.status) == ("days~3", True, "ACTIVE")
        assert built.view.indexes == ("by_total",)
        assert built.billing == "PAY_PER_REQUEST"
        assert built.logged_as == ("days~3",)

    def test_its_stream_waits_for_the_swap(self):
        built = generation(1, body(StreamSpecification=STREAM))
        assert built.streams == ()
        assert built.view.stream == "NEW_IMAGE"
        [stream] = in_force(built).streams
        assert (stream.view_type, stream.enabled) == ("NEW_IMAGE", 200.0)

    def test_the_rules_of_tables_hold(self):
        with pytest.raises(ValidationError, match="not defined"):
            generation(1, body(index("by_total", "other")))

    def test_values_are_under_the_partition_key(self):
        keys = [
            {"AttributeName": "day", "KeyType": "HASH"},
            {"AttributeName": "total", "KeyType": "RANGE"},
        ]
        built = generation(1, body(types={"day": "S", "total": "N"}, KeySchema=keys))
        values = plan_values(built, new_id())
        assert values.name == "days~1~values"
        assert [(key.name, key.kind) for key in values.keys] == [
            ("day", "HASH"),
            ("_value", "RANGE"),
        ]
        assert values.attributes == {"day": "S", "_value": "B"}
        assert (values.view.part, values.hidden, values.indexes) == ("values", True, ())  # type: ignore[union-attr]

    def test_a_key_of_the_values_own_name(self):
        keys = [{"AttributeName": "_value", "KeyType": "HASH"}]
        built = generation(1, body(types={"_value": "S"}, KeySchema=keys))
        with pytest.raises(ValidationError, match="_value is a name that aggregates need"):
            plan_values(built, new_id())


class TestSwap:
    def test_a_placeholder_has_nothing_that_the_table_keeps(self):
        built = generation()
        placeholder = plan_placeholder(built, new_id)
        assert (placeholder.name, placeholder.status) == ("days", "CREATING")
        assert placeholder.view.generation == 0  # type: ignore[union-attr]
        ids = {placeholder.id, *(each.id for each in placeholder.indexes)}
        assert ids.isdisjoint({built.id, *(each.id for each in built.indexes)})

    def test_the_table_gets_the_views_name(self):
        built = generation()
        document = in_force(built)
        assert (document.name, document.id, document.hidden) == ("days", built.id, False)
        assert document.indexes == built.indexes
        assert document.logged_as == ("days", "days~1")

    def test_what_users_have_set_is_kept(self):
        first = in_force(generation())
        changed = first.model_copy(update={"tags": {"a": "b"}, "deletion_protection": True})
        second = in_force(generation(2, current=changed), changed)
        assert (second.tags, second.deletion_protection) == ({"a": "b"}, True)

    @pytest.mark.parametrize(
        ("declared", "used", "then", "found"),
        [
            # As it was declared, until a user has changed it.
            (None, None, None, None),
            ("NEW_IMAGE", "NEW_IMAGE", "NEW_IMAGE", "NEW_IMAGE"),
            (None, "OLD_IMAGE", None, "OLD_IMAGE"),
            ("NEW_IMAGE", None, "NEW_IMAGE", None),
            # A new declaration counts.
            (None, None, "NEW_IMAGE", "NEW_IMAGE"),
            ("NEW_IMAGE", "OLD_IMAGE", None, None),
        ],
    )
    def test_its_stream_is_as_declared_or_as_users_have_set_it(self, declared, used, then, found):
        def with_stream(kind):
            more = {"StreamSpecification": {**STREAM, "StreamViewType": kind}} if kind else {}
            return body(**more)

        first = in_force(generation(1, with_stream(declared)))
        streams = in_force(generation(1, with_stream(used))).streams
        current = first.model_copy(update={"streams": streams})
        second = in_force(generation(2, with_stream(then), current), current, now=300.0)
        assert (second.stream and second.stream.view_type) == found

    def test_indexes_that_users_added_are_built_too(self):
        current = with_index(in_force(generation()), "mine", "state", types={"state": "S"})
        built = generation(2, current=current)
        assert names(built) == ["by_total", "mine"]
        assert {each.status for each in built.indexes} == {"ACTIVE"}
        assert built.attributes == {"day": "S", "total": "N", "state": "S"}
        ids = {each.id for each in current.indexes}
        assert ids.isdisjoint(each.id for each in built.indexes)
        assert in_force(built, current).indexes == built.indexes

    def test_an_index_that_was_added_meanwhile_is_filled_later(self):
        first = in_force(generation())
        built = generation(2, current=first)
        current = with_index(first, "mine", "state", types={"state": "S"})
        mine = in_force(built, current).index("mine")
        assert (mine.status, mine.backfilling) == ("CREATING", True)

    def test_an_index_that_was_removed_meanwhile_goes(self):
        first = in_force(generation())
        built = generation(2, current=with_index(first, "mine", "state", types={"state": "S"}))
        document = in_force(built, first)
        assert names(document) == ["by_total"]
        assert document.attributes == {"day": "S", "total": "N"}

    def test_an_index_that_the_app_does_not_declare_any_more_goes(self):
        first = in_force(generation())
        assert names(in_force(generation(2, body(), current=first), first)) == []

    def test_an_index_of_users_that_does_not_fit_any_more(self):
        current = with_index(in_force(generation()), "mine", "state", types={"state": "S"})
        request = body(index("by_state", "state"), types={"day": "S", "state": "N"})
        with pytest.raises(ValidationError, match="state has the type S in the index mine"):
            generation(2, request, current)

    def test_more_indexes_than_a_table_may_have(self):
        first = in_force(generation())
        current = with_index(first, "mine", "state", types={"state": "S"})
        request = body(*(index(f"index{number}", "total") for number in range(20)))
        with pytest.raises(ValidationError, match="more than 20"):
            generation(2, request, current)


class TestLeftovers:
    def built(self, number, **more) -> TableDocument:
        return generation(number, **more)  # type: ignore[no-any-return]

    def found(self, *documents):
        return {each.name: each.how for each in find_leftovers(documents)}

    def test_a_build_is_none(self):
        first, second = generation(1), generation(2)
        values = plan_values(second, new_id())
        assert self.found(plan_placeholder(first, new_id), first) == {}
        assert self.found(in_force(first), second, values) == {}

    def test_the_parts_of_what_is_read_are_none(self):
        built = generation(2)
        assert self.found(in_force(built), plan_values(built, new_id())) == {}

    def test_older_generations(self):
        first, second = generation(1), generation(2)
        values = plan_values(first, new_id())
        assert self.found(in_force(second), first, values) == {
            "days~1": "delete",
            "days~1~values": "delete",
        }

    def test_the_name_before_the_swap(self):
        built = generation(2)
        assert self.found(in_force(built), built) == {"days~2": "forget"}

    def test_another_table_of_the_generation_that_is_read(self):
        assert self.found(in_force(generation(2)), generation(2)) == {"days~2": "delete"}

    def test_what_belongs_to_no_view(self):
        built = generation(2)
        table = in_force(built).model_copy(update={"view": None, "id": new_id()})
        assert self.found(built) == self.found(table, built) == {"days~2": "delete"}
        other = in_force(generation(1))
        other = other.model_copy(update={"view": other.view.model_copy(update={"app": "bakery"})})
        assert self.found(other, built) == {"days~2": "delete"}

    def test_hidden_tables_that_are_no_views(self):
        state = generation(1).model_copy(update={"view": None, "name": "streamtable.state"})
        assert self.found(state) == {}
