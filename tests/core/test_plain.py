"""Items as Python values: what boto3's deserializer gives, without its wrapper for binary."""

from decimal import Decimal

from boto3.dynamodb.types import Binary, TypeDeserializer
from hypothesis import given
from hypothesis import strategies as st

from streamtable.core.numbers import normalize
from streamtable.core.plain import plain_item, plain_value
from streamtable.core.values import parse_item

TEXT = st.text(max_size=5)
NUMBER = st.decimals(-1000, 1000, places=3).map(lambda number: normalize(str(number)))
BINARY = st.binary(max_size=6)


def _unwrapped(value: object) -> object:
    if isinstance(value, Binary):
        return value.value
    if isinstance(value, set):
        return {_unwrapped(member) for member in value}
    if isinstance(value, list):
        return [_unwrapped(member) for member in value]
    if isinstance(value, dict):
        return {name: _unwrapped(member) for name, member in value.items()}
    return value


def test_each_type() -> None:
    item, _ = parse_item(
        {
            "s": {"S": "x"},
            "n": {"N": "1.50"},
            "b": {"B": "AAE="},
            "bool": {"BOOL": False},
            "null": {"NULL": True},
            "ss": {"SS": ["a", "b"]},
            "ns": {"NS": ["1", "2.0"]},
            "bs": {"BS": ["AAE="]},
            "l": {"L": [{"N": "1"}, {"M": {"k": {"S": "v"}}}]},
            "m": {"M": {"k": {"B": "AA=="}}},
        }
    )
    assert plain_item(item) == {
        "s": "x",
        "n": Decimal("1.5"),
        "b": b"\x00\x01",
        "bool": False,
        "null": None,
        "ss": {"a", "b"},
        "ns": {Decimal(1), Decimal(2)},
        "bs": {b"\x00\x01"},
        "l": [Decimal(1), {"k": "v"}],
        "m": {"k": b"\x00"},
    }


def _wire(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(
        st.builds(lambda content: {"L": content}, st.lists(children, max_size=3)),
        st.builds(lambda content: {"M": content}, st.dictionaries(TEXT, children, max_size=3)),
    )


WIRE = st.recursive(
    st.one_of(
        TEXT.map(lambda text: {"S": text}),
        NUMBER.map(lambda text: {"N": text}),
        st.booleans().map(lambda flag: {"BOOL": flag}),
        st.just({"NULL": True}),
        st.lists(NUMBER, min_size=1, max_size=3, unique=True).map(lambda many: {"NS": many}),
    ),
    _wire,
    max_leaves=8,
)


@given(WIRE)
def test_is_what_boto3_gives(value: dict[str, object]) -> None:
    assert plain_value(value) == _unwrapped(TypeDeserializer().deserialize(value))
