"""What nodes say to each other comes out as it went in, over real JSON."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core import errors
from streamtable.core.context import RequestContext
from streamtable.core.errors import ApiError, ConditionalCheckFailed, TransactionCanceled
from streamtable.core.images import Image
from streamtable.core.values import dump_item, item_size
from streamtable.streams.owner import Moved
from streamtable.streams.peers.messages import (
    context_from_json,
    context_to_json,
    error_from_json,
    error_to_json,
    image_from_json,
    image_to_json,
    outcome_from_json,
    outcome_to_json,
)
from streamtable.streams.shard import Outcome

KINDS = [
    kind
    for kind in (Moved, *(getattr(errors, name) for name in errors.__all__))
    if isinstance(kind, type) and issubclass(kind, ApiError)
]
OTHERS = [kind for kind in KINDS if kind not in {ConditionalCheckFailed, TransactionCanceled}]

TEXTS = st.text(max_size=20)
VALUES = st.recursive(
    TEXTS.map(lambda text: {"S": text})
    | st.integers(-(10**20), 10**20).map(lambda number: {"N": str(number)})
    | st.booleans().map(lambda true: {"BOOL": true}),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: {"L": each})
        | st.dictionaries(TEXTS, inner, max_size=3).map(lambda each: {"M": each})
    ),
    max_leaves=6,
)
ITEMS = st.dictionaries(TEXTS, VALUES, max_size=4)


@st.composite
def _images(draw: Any) -> Image:
    item = draw(ITEMS)
    return Image(dump_item(item), item_size(item), draw(st.integers(0, 2**62)), "eu", item)


IMAGES = st.none() | _images()


def sent(message: Any) -> Any:
    return orjson.loads(orjson.dumps(message))


def same(one: Image | None, other: Image | None) -> bool:
    if one is None or other is None:
        return one is other
    left, right = (
        (each.item, each.size_bytes, each.time, each.region, orjson.loads(each.json))
        for each in (one, other)
    )
    return left == right


@given(IMAGES)
def test_images(image):
    assert same(image_from_json(sent(image_to_json(image))), image)


@given(IMAGES, IMAGES, st.integers(-1, 2**40), st.integers(0, 100))
def test_outcomes(old, new, offset, place):
    found = outcome_from_json(sent(outcome_to_json(Outcome(old, new, offset, place))))
    assert same(found.old, old)
    assert same(found.new, new)
    assert (found.offset, found.place) == (offset, place)


@given(IMAGES)
def test_an_outcome_that_changed_nothing_still_says_so(image):
    found = outcome_from_json(sent(outcome_to_json(Outcome(image, image, -1, 0))))
    assert found.new is found.old
    assert same(found.old, image)


@given(TEXTS, TEXTS, TEXTS)
def test_contexts(request_id, principal, address):
    context = RequestContext(request_id, principal, address)
    assert context_from_json(sent(context_to_json(context))) == context


def check_error(error: ApiError) -> ApiError:
    found = error_from_json(sent(error_to_json(error)))
    assert type(found) is type(error)
    assert (found.message, found.members, str(found)) == (error.message, error.members, str(error))
    return found


@given(st.sampled_from(OTHERS), TEXTS, ITEMS)
def test_errors(kind, message, item):
    check_error(kind(message, Item=item))
    check_error(kind(message))


@given(st.none() | ITEMS)
def test_a_failed_condition_brings_the_item(item):
    check_error(ConditionalCheckFailed(item))


@given(st.lists(st.fixed_dictionaries({"Code": TEXTS}, optional={"Message": TEXTS, "Item": ITEMS})))
def test_a_cancelled_transaction_brings_its_reasons(reasons):
    found = check_error(TransactionCanceled(reasons))
    assert isinstance(found, TransactionCanceled)
    assert found.reasons == reasons


class _Unheard(errors.ServiceUnavailable):
    """A class that the other side does not know."""


def test_an_unknown_class_arrives_as_what_it_is_a_kind_of():
    found = error_from_json(sent(error_to_json(_Unheard("not now"))))
    assert type(found) is errors.ServiceUnavailable
    assert found.message == "not now"


def test_an_error_of_a_newer_version_is_the_service_s_own():
    with pytest.raises(errors.InternalServerError, match="who knows"):
        raise error_from_json(["InventedLater", "who knows", {}])
