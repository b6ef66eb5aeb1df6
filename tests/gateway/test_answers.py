import pytest

from streamtable.gateway.answers import wants_gzip

LONG = b"x" * 2000


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        (None, False),
        (b"identity", False),
        (b"gzip", True),
        (b"deflate, gzip;q=0.5", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.0, identity", False),
        (b"xgzip", False),
    ],
)
def test_answers_are_packed_only_when_asked(accepted, packed):
    headers = {} if accepted is None else {b"accept-encoding": accepted}
    assert wants_gzip(headers, LONG) is packed
    assert not wants_gzip(headers, b"short")
