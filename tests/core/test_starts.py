import pytest

from streamtable.core.positions import sequence_number
from streamtable.core.starts import LATEST, TRIM_HORIZON, AtPositions, AtTime, parse_start


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("LATEST", LATEST),
        (" trim_horizon", TRIM_HORIZON),
        ("2026-11-23T12:00:00Z", AtTime(1_795_435_200_000)),
        ("2026-11-23T13:00:00.25+01:00", AtTime(1_795_435_200_250)),
        ("1795435200", AtTime(1_795_435_200_000)),
        ("1795435200.5", AtTime(1_795_435_200_500)),
        ("1795435200500", AtTime(1_795_435_200_500)),
        ("0", AtTime(0)),
        ("2/1042", AtPositions({2: 1042})),
        ("2/1042.7", AtPositions({2: 1042})),
        ("AT_TIMESTAMP 2026-11-23T12:00:00+00:00", AtTime(1_795_435_200_000)),
        ("POSITION 0/5 3/0", AtPositions({0: 5, 3: 0})),
        ("0/5, 3/0", AtPositions({0: 5, 3: 0})),
        (f"2/{sequence_number(1042, 7)}", AtPositions({2: 1042})),
    ],
)
def test_what_a_start_says(text, start):
    assert parse_start(text) == start


@pytest.mark.parametrize(
    "text",
    [
        *["", "EARLIEST", "2026-11-23T12:00:00", "2026-13-01T00:00:00Z", "-5", "nan", "inf"],
        *["1e30", "2/", "/5", "2/5,2/6", "2/5,", "2/x"],
    ],
)
def test_what_is_no_start(text):
    with pytest.raises(ValueError, match="is no start: write LATEST"):
        parse_start(text)


def test_a_time_as_text():
    assert str(AtTime(1_795_435_200_250)) == "2026-11-23T12:00:00.250Z"
    assert parse_start(str(AtTime(1_795_435_200_250))) == AtTime(1_795_435_200_250)
