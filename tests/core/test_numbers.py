from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamtable.core import numbers
from streamtable.core.errors import ValidationError

MAX = "9.9999999999999999999999999999999999999E+125"
TOO_PRECISE = "Attempting to store more than 38 significant digits in a Number"
OVERFLOW = (
    "Number overflow. Attempting to store a number with magnitude larger than supported range"
)
UNDERFLOW = (
    "Number underflow. Attempting to store a number with magnitude smaller than supported range"
)


@st.composite
def decimals(draw):
    """Any number that DynamoDB can hold."""
    digits = draw(st.text("0123456789", min_size=1, max_size=38))
    leading = draw(st.integers(-130, 125) | st.integers(-3, 40))
    # From text, which is exact: arithmetic would round to the 28 digits of Decimal's context.
    exponent = leading - len(digits.lstrip("0")) + 1
    return Decimal(f"{draw(st.sampled_from(['', '-']))}{digits}E{exponent}")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("+0", "0"),
        ("0.000", "0"),
        ("-0.0e5", "0"),
        ("0e2147483647", "0"),
        ("1.0", "1"),
        ("+5", "5"),
        ("00042", "42"),
        ("1e2", "100"),
        ("1.5E+3", "1500"),
        ("12.3400", "12.34"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-.50", "-0.5"),
        ("1e-3", "0.001"),
        ("-1.20e-002", "-0.012"),
        ("1e0000000000000000000001", "10"),
        ("0" * 5000 + "7", "7"),
        ("1" + "0" * 125, "1" + "0" * 125),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("1E-130", "0." + "0" * 129 + "1"),
        (MAX, "9" * 38 + "0" * 88),
        ("-" + MAX, "-" + "9" * 38 + "0" * 88),
    ],
)
def test_normalize(text, canonical):
    assert numbers.normalize(text) == canonical
    assert numbers.normalize(canonical) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "1e",
        "e5",
        "1.2.3",
        "1+2",
        " 5",
        "5 ",
        "5\n",
        "--1",
        "0x10",
        "1_000",
        "NaN",
        "Infinity",
        "\u0661",
        "1e2147483648",
        "1e99999999999",
        ".",
        "-",
        "1,5",
    ],
)
def test_what_is_no_number(text):
    with pytest.raises(ValidationError) as refused:
        numbers.normalize(text)
    assert refused.value.message == f"The parameter cannot be converted to a numeric value: {text}"


def test_the_empty_text_is_no_number():
    with pytest.raises(ValidationError) as refused:
        numbers.normalize("")
    assert refused.value.message == "The parameter cannot be converted to a numeric value"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1" * 39, TOO_PRECISE),
        ("1." + "0" * 37 + "1", TOO_PRECISE),
        ("1E126", OVERFLOW),
        ("1" * 39 + "E100", OVERFLOW),
        ("-1E126", OVERFLOW),
        ("1E2000000000", OVERFLOW),
        ("1E-131", UNDERFLOW),
        ("-0." + "0" * 130 + "1", UNDERFLOW),
    ],
)
def test_numbers_out_of_range(text, message):
    with pytest.raises(ValidationError) as refused:
        numbers.normalize(text)
    assert refused.value.message == message


@given(decimals(), st.sampled_from(["{}", "{:e}", "{:f}", "{:E}"]))
def test_every_way_to_write_a_number_has_one_canonical_form(number, form):
    canonical = numbers.normalize(form.format(number))
    assert canonical == numbers.from_decimal(number)
    assert numbers.to_decimal(canonical) == number
    assert numbers.normalize(canonical) is canonical or len(canonical) > 38


@given(decimals())
def test_decode_reads_what_encode_made(number):
    text = numbers.from_decimal(number)
    encoded = numbers.encode(text)
    assert numbers.decode(b"before" + encoded + b"after", 6) == (text, 6 + len(encoded))
    assert len(encoded) <= 22


@given(decimals(), decimals())
def test_encodings_are_ordered_as_the_numbers(left, right):
    a, b = (numbers.encode(numbers.from_decimal(number)) for number in (left, right))
    assert (a < b) == (left < right)
    assert (a == b) == (left == right)
    assert left == right or not b.startswith(a)


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(1, 9))
def test_neighbours_stay_in_order(number, step):
    assume(number + step < 10**38)
    assert numbers.encode(str(number)) < numbers.encode(str(number + step))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x03\x82", b"\x03\x82\x22", b"\x04\x82\x20"])
def test_decode_refuses_what_is_no_number(data):
    with pytest.raises(ValueError, match="number"):
        numbers.decode(data)


@pytest.mark.parametrize(
    ("left", "right", "total", "difference"),
    [
        ("1", "2", "3", "-1"),
        ("0.1", "0.2", "0.3", "-0.1"),
        ("0.3", "0.1", "0.4", "0.2"),
        ("5", "5", "10", "0"),
        ("-1.5", "1.5", "0", "-3"),
        ("999999999999999999", "1", "1000000000000000000", "999999999999999998"),
        ("1" + "0" * 30, "0.0000001", "1" + "0" * 30 + ".0000001", "9" * 30 + ".9999999"),
    ],
)
def test_add_and_subtract(left, right, total, difference):
    assert numbers.add(left, right) == total
    assert numbers.subtract(left, right) == difference


@given(decimals(), decimals())
def test_sums_are_exact_or_refused(left, right):
    a, b = numbers.from_decimal(left), numbers.from_decimal(right)
    try:
        total = numbers.add(a, b)
    except ValidationError:
        return
    assert numbers.normalize(total) == total
    try:
        assert numbers.subtract(total, b) == a
    except ValidationError as refused:
        raise AssertionError from refused


def test_a_sum_that_is_too_large():
    with pytest.raises(ValidationError, match="Number overflow"):
        numbers.add(numbers.normalize(MAX), numbers.normalize("1E125"))


def test_a_difference_that_is_too_small():
    left, right = numbers.normalize("1.1E-129"), numbers.normalize("1E-129")
    assert numbers.subtract(left, right) == numbers.normalize("1E-130")
    with pytest.raises(ValidationError, match="more than 38 significant digits"):
        numbers.subtract("1", numbers.normalize("1E-130"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_from_decimal_refuses_what_is_not_finite(number):
    with pytest.raises(ValidationError, match="cannot be converted to a numeric value"):
        numbers.from_decimal(Decimal(number))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 1),
        ("7", 2),
        ("27", 2),
        ("-27", 3),
        ("461", 3),
        ("1000", 2),
        ("1" + "0" * 125, 2),
        ("0.5", 2),
        ("0.0012", 2),
        ("10.5", 3),
        ("-100.25", 5),
        ("1786461547", 6),
        ("9" * 38, 20),
    ],
)
def test_size(text, size):
    assert numbers.size_bytes(text) == size
