import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.shapes import table_name


def test_a_name_is_itself():
    assert table_name("users-2.test_1") == "users-2.test_1"


def test_an_arn_names_its_table():
    assert table_name("arn:aws:dynamodb:local:000000000000:table/users") == "users"


@pytest.mark.parametrize(
    "text",
    [
        "ab",
        "a" * 256,
        "users!",
        "users\n",
        "arn:aws:dynamodb:local:000000000000:table/ab",
        "arn:aws:dynamodb:local:000000000000:table/users/index/by_name",
        "arn:aws:s3:local:000000000000:table/users",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValidationError, match=r"^Invalid table/index name\.  Table/index names"):
        table_name(text)
