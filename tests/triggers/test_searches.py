"""Searches: what they say of themselves, and the documents of items."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from streamtable import App
from streamtable.core.plain import wire_item
from streamtable.triggers import InvalidDeclaration, InvalidHandler, InvalidRow


class Product(pydantic.BaseModel):
    id: str
    price: Decimal


def test_a_search_alone_has_the_items_as_documents() -> None:
    app = App("shop")
    app.search("products", index="products-v1", mapping={"properties": {}})
    search = app.searches["products"]
    assert (search.table, search.index, search.sources) == (
        "products",
        "products-v1",
        ("products",),
    )
    item = {
        "id": "p1",
        "n": 5,
        "price": Decimal("9.5"),
        "big": Decimal("1e30"),
        "tags": {"b", "a"},
        "b": b"x",
        "z": None,
        "m": {"l": [Decimal(1)]},
    }
    document = search.document(wire_item(item))
    assert document == {
        "id": "p1",
        "n": 5,
        "price": 9.5,
        "big": 1e30,
        "tags": ["a", "b"],
        "b": "eA==",
        "z": None,
        "m": {"l": [1]},
    }
    assert json.loads(json.dumps(document)) == document
    assert json.loads(json.dumps(search.definition())) == search.definition()


def test_a_search_as_a_decorator() -> None:
    app = App("shop")

    @app.search("products", table="catalog")
    def product(item: Product) -> Any:
        return {"price": item.price} if item.price else None

    search = app.searches["products"]
    assert search.table == "catalog"
    assert search.document(wire_item({"id": "p1", "price": 3})) == {"price": 3}
    assert search.document(wire_item({"id": "p1", "price": 0})) is None
    assert search.definition()["code"]


def test_a_search_with_a_transform() -> None:
    app = App("shop")
    register = app.search("products", transform=lambda item: Product(**item))
    assert app.searches["products"].document(wire_item({"id": "p1", "price": 3})) == {
        "id": "p1",
        "price": 3,
    }
    with pytest.raises(InvalidDeclaration, match="has a transform already"):
        register(lambda item: item)


def test_documents_of_models_are_json() -> None:
    class Visit(pydantic.BaseModel):
        id: str
        at: datetime
        prices: list[Decimal]

    app = App("shop")

    @app.search("visits")
    def visit(item: Visit) -> Visit:
        return item

    item = {"id": "v1", "at": "2026-01-01T12:00:00Z", "prices": [Decimal("1.5"), 2]}
    assert app.searches["visits"].document(wire_item(item)) == {**item, "prices": [1.5, 2]}


def test_what_is_no_document_is_an_error() -> None:
    app = App("shop")
    app.search("products", transform=lambda item: 5)
    with pytest.raises(InvalidRow, match="a document is a dict or a model"):
        app.searches["products"].document(wire_item({"id": "p1"}))


@pytest.mark.parametrize("index", ["Products", "_a", "-a", "+a", "a b", "a*", "", ".", "..", "a#b"])
def test_an_index_that_is_none_is_refused(index: str) -> None:
    with pytest.raises(InvalidDeclaration, match="can't be the name of an Elasticsearch index"):
        App("shop").search("products", index=index)


def test_a_transform_that_waits_is_refused() -> None:
    async def wait(item: dict) -> dict:  # type: ignore[type-arg]
        return item

    with pytest.raises(InvalidHandler, match="is async"):
        App("shop").search("products", transform=wait)
