from pathlib import Path

import pytest

from streamtable.cli.loading import load_app
from streamtable.triggers.declarations import read_app
from streamtable.triggers.errors import InvalidDeclaration

CATALOG = """
[search.products]
index = "items"
settings = { number_of_replicas = 0 }

[search.products.mapping.properties]
name = { type = "text" }

[search.orders]
table = "all-orders"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.toml"


def test_an_app_without_python(file):
    file.write_text(CATALOG)
    app = load_app(str(file))
    assert app.name == "catalog"
    products, orders = app.searches.values()
    assert (products.name, products.table, products.index) == ("products", "products", "items")
    assert products.mapping == {"properties": {"name": {"type": "text"}}}
    assert products.settings == {"number_of_replicas": 0}
    assert (orders.table, orders.index, orders.mapping) == ("all-orders", "orders", None)


def test_the_app_may_have_another_name(file):
    file.write_text(f'app = "shop"\n{CATALOG}')
    assert read_app(file).name == "shop"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[search", "is no TOML"),
        ("[serach.a]", "has serach: what there is is app, search"),
        ("app = 3", "app is 3, and must be a text"),
        ("[search]\na = 1", "search.a is 1, and must be a table"),
        ("[search.aaa]\nmapping = 'x'", "search.aaa.mapping is 'x', and must be a table"),
        ("[search.aaa]\ntransform = 'x'", "has transform: what there is is table, index"),
        ("[search.aaa]\nindex = 'A B'", "'A B' can't be the name of an Elasticsearch index"),
        ("[search.aaa]\ntable = 'a'", "'a' can't be the name of a table"),
    ],
)
def test_what_is_wrong_is_said(file, text, message):
    file.write_text(text)
    with pytest.raises(InvalidDeclaration) as caught:
        read_app(file)
    assert message in str(caught.value)


def test_a_file_that_is_not_there(file):
    with pytest.raises(InvalidDeclaration, match="can't be read: No such file"):
        read_app(file)
