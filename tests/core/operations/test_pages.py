import pytest

from streamtable.core.expressions.condition import bind_condition
from streamtable.core.expressions.placeholders import Placeholders
from streamtable.core.expressions.projection import Projection
from streamtable.core.images import Image
from streamtable.core.limits import PAGE_BYTES
from streamtable.core.operations.pages import Page
from streamtable.core.values import dump_item


def rows(count, size=10):
    for number in range(count):
        item = {"id": {"S": f"i{number}"}, "n": {"N": str(number)}}
        yield b"%d" % number, Image(dump_item(item), size, 1, "local")


def page(limit=None, condition=None, projection=None, *, counting=False):
    return Page(limit=limit, condition=condition, projection=projection, counting=counting)


def test_everything_fits():
    full = page()
    assert full.read(rows(2)) is False
    assert b"".join(full.members()) == (
        b'"Items":[{"id":{"S":"i0"},"n":{"N":"0"}},{"id":{"S":"i1"},"n":{"N":"1"}}]'
        b'"Count":2,"ScannedCount":2'
    )
    assert full.key(["id"]) is None
    assert full.size_bytes == 20


def test_several_ranges_make_one_page():
    several = page(limit=5)
    assert several.read(rows(3)) is False
    assert several.read(rows(3)) is True
    assert several.scanned == 5
    assert several.key(["id"]) == {"id": {"S": "i1"}}


@pytest.mark.parametrize(("size", "read"), [(PAGE_BYTES, 1), (PAGE_BYTES // 2, 2), (400_000, 3)])
def test_a_page_ends_with_the_item_that_fills_it(size, read):
    full = page()
    assert full.read(rows(10, size)) is True
    assert full.scanned == read


def test_the_rows_after_a_page_are_not_read():
    source = rows(10)
    page(limit=3).read(source)
    assert len(list(source)) == 7


def test_a_filter_and_a_projection():
    condition = bind_condition(
        "n >= :n", "FilterExpression", Placeholders(None, {":n": {"N": "8"}})
    )
    filtered = page(condition=condition, projection=Projection.of_attributes(["n"]))
    filtered.read(rows(10))
    assert filtered.members() == [
        b'"Items":[{"n":{"N":"8"}},{"n":{"N":"9"}}]',
        b'"Count":2,"ScannedCount":10',
    ]


def test_counting_keeps_no_items():
    counted = page(counting=True)
    counted.read(rows(4))
    assert counted.members() == [b'"Count":4,"ScannedCount":4']
