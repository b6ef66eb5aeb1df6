import pytest

from streamtable.core.formats import FIRST, NewerFormat, refuse_newer
from streamtable.core.images import Image


def test_what_is_known_passes():
    refuse_newer("a record", FIRST, 1)
    refuse_newer("a record", 2, 3)


def test_what_is_newer_is_named_with_what_to_do():
    with pytest.raises(NewerFormat, match=r"a record has format 3, .* up to 2\. .* run"):
        refuse_newer("a record", 3, 2)


def test_an_image_of_a_newer_format_is_not_read():
    data = Image(b'{"id":{"S":"a"}}', 3, 7, "local").encode()
    assert Image.decode(data).json == b'{"id":{"S":"a"}}'
    with pytest.raises(NewerFormat, match="an item's image has format 2"):
        Image.decode(b"\x02" + data[1:])
