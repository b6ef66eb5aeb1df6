import pytest

from streamtable.core.key_texts import InvalidKeyText, parse_key_text
from streamtable.core.keys import KeyAttribute, KeySchema

SIMPLE = KeySchema((KeyAttribute("id", "S"),))
ORDERS = KeySchema((KeyAttribute("user_id", "N"),), (KeyAttribute("id", "S"),))
BINARY = KeySchema((KeyAttribute("hash", "B"),))


@pytest.mark.parametrize(
    ("keys", "text", "found"),
    [
        (SIMPLE, "id=ada", {"id": {"S": "ada"}}),
        (SIMPLE, "  id=Ada Lovelace ", {"id": {"S": "Ada Lovelace"}}),
        (SIMPLE, "id=a=b other=c", {"id": {"S": "a=b other=c"}}),
        (SIMPLE, "id=7", {"id": {"S": "7"}}),
        (ORDERS, "user_id=7 id=a b", {"user_id": {"N": "7"}, "id": {"S": "a b"}}),
        (ORDERS, "id=a user_id=07.0", {"user_id": {"N": "7"}, "id": {"S": "a"}}),
        (ORDERS, '{"id": "a", "user_id": 7}', {"user_id": {"N": "7"}, "id": {"S": "a"}}),
        (
            ORDERS,
            '{"user_id": 12345678901234567890123456789.5, "id": {"S": "a"}}',
            {"user_id": {"N": "12345678901234567890123456789.5"}, "id": {"S": "a"}},
        ),
        (ORDERS, '{"id":{"S":"a"},"user_id":{"N":"7"}}', {"user_id": {"N": "7"}, "id": {"S": "a"}}),
        (BINARY, "hash=aGk=", {"hash": {"B": "aGk="}}),
    ],
)
def test_keys(keys: KeySchema, text: str, found: object) -> None:
    parsed = parse_key_text(keys, text)
    assert parsed == found
    assert tuple(parsed) == keys.names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "name=ada",
        "x id=a user_id=1",
        "user_id=7",
        "user_id=7 user_id=8",
        "user_id=7 id=",
        '{"user_id": 7}',
        '{"user_id": 7, "id": 8, "x": 1}',
        '{"user_id": "x", "id": null}',
        '{"user_id": {"S": "7"}, "id": "a"}',
        '{"user_id": "',
        "user_id=seven id=a",
    ],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(InvalidKeyText) as caught:
        parse_key_text(ORDERS, text)
    assert repr(text)[1:-1] in str(caught.value)


def test_the_error_says_how_to_write_it() -> None:
    with pytest.raises(InvalidKeyText, match=r"write user_id=\.\.\. id=\.\.\. \(user_id is N, id"):
        parse_key_text(ORDERS, "ada")
