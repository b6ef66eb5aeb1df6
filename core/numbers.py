"""DynamoDB's numbers: decimal, 38 significant digits, magnitudes from 1E-130 to below 1E+126.

A number travels as text and is kept as text in one canonical form, the plain one that DynamoDB
answers with: `1.0` and `1e0` are `1`, `1e3` is `1000`, `-0` is `0`. Two numbers are equal when
their canonical texts are.

Source of the rules: "Data types" (Number) in the developer guide.
"""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

from streamtable.core.errors import ValidationError
from streamtable.core.limits import NUMBER_DIGITS, NUMBER_MAX_EXPONENT, NUMBER_MIN_EXPONENT

__all__ = [
    "add",
    "decode",
    "encode",
    "from_decimal",
    "normalize",
    "size_bytes",
    "subtract",
    "to_decimal",
]

# What is canonical already, when it is short enough to have at most 38 digits.
_canonical = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?").fullmatch
_number = re.compile(
    r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([+-]?)0*([0-9]{1,10}))?"
).fullmatch
_integer = re.compile(r"-?[0-9]{1,18}").fullmatch

# A sum of two numbers needs at most 125 + 130 + 1 digits and what a carry adds: it is exact.
_EXACT: Final = Context(prec=300, traps=[Inexact, InvalidOperation])
_MAX_INT32: Final = 2**31 - 1


def normalize(text: str) -> str:
    """Return the canonical form of a number's text.

    Raises:
        ValidationError: the text is no number, or has too many digits, or is out of range.
    """
    if len(text) <= NUMBER_DIGITS and _canonical(text) and text != "-0":
        return text
    match = _number(text)
    if match is None:
        raise _not_a_number(text)
    sign, whole, fraction, bare_fraction, exponent_sign, exponent_digits = match.groups()
    fraction = fraction or bare_fraction or ""
    exponent = int(exponent_digits or 0)
    if exponent > _MAX_INT32:
        raise _not_a_number(text)
    if exponent_sign == "-":
        exponent = -exponent
    return _build(sign == "-", (whole or "") + fraction, exponent - len(fraction))


def to_decimal(text: str) -> Decimal:
    """Return a canonical number as a Decimal, exactly."""
    return Decimal(text)


def from_decimal(number: Decimal) -> str:
    """Return the canonical text of a Decimal.

    Raises:
        ValidationError: it is not finite, or has too many digits, or is out of range.
    """
    negative, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise _not_a_number(str(number))
    return _build(bool(negative), "".join(map(str, digits)), exponent)


def add(left: str, right: str) -> str:
    """Return the sum of two canonical numbers, exactly.

    Raises:
        ValidationError: the sum has too many digits or is out of range.
    """
    if _integer(left) and _integer(right):
        return str(int(left) + int(right))
    return from_decimal(_EXACT.add(Decimal(left), Decimal(right)))


def subtract(left: str, right: str) -> str:
    """Return the difference of two canonical numbers, exactly.

    Raises:
        ValidationError: the difference has too many digits or is out of range.
    """
    if _integer(left) and _integer(right):
        return str(int(left) - int(right))
    return from_decimal(_EXACT.subtract(Decimal(left), Decimal(right)))


def size_bytes(text: str) -> int:
    """Return what a canonical number counts in an item's size.

    One byte, one for two digits before and for two digits behind the point, and one for a negative
    number; zeros at either end of the number don't count. "DynamoDB item sizes and formats" gives
    this rule approximately.
    """
    if text.isdigit():
        return (len(text.rstrip("0")) + 3) // 2
    whole, _, fraction = text.partition(".")
    size = 2 if text[0] == "-" else 1
    if not fraction:
        return size + (len(whole.strip("-0")) + 1) // 2
    whole = whole.lstrip("-0")
    if not whole:
        fraction = fraction.lstrip("0")
    return size + (len(whole) + 1) // 2 + (len(fraction) + 1) // 2


# The order-preserving encoding: a byte for the sign, a byte for the decimal exponent of the first
# digit, then the digits as nibbles and an end nibble. A digit's nibble is one more than the digit,
# so that the end nibble 0 sorts before any further digit. A negative number has the complement
# after its sign byte, so that a larger magnitude sorts first.
_NEGATIVE: Final = b"\x01"
_ZERO: Final = b"\x02"
_POSITIVE: Final = b"\x03"
_TO_NIBBLES: Final = str.maketrans("0123456789", "123456789a")
_TO_COMPLEMENT: Final = str.maketrans("0123456789", "edcba98765")
_FROM_NIBBLES: Final = str.maketrans("123456789a", "0123456789")
_FROM_COMPLEMENT: Final = str.maketrans("edcba98765", "0123456789")
_EXPONENT_BYTES: Final = tuple(bytes([i]) for i in range(256))


def encode(text: str) -> bytes:
    """Return a canonical number as bytes that sort as the numbers do.

    The encoding ends itself: no encoding is the prefix of another. At most 22 bytes.
    """
    if text == "0":
        return _ZERO
    negative = text[0] == "-"
    whole, _, fraction = (text[1:] if negative else text).partition(".")
    if whole == "0":
        digits = fraction.lstrip("0")
        exponent = len(digits) - len(fraction) - 1
    else:
        digits = whole + fraction if fraction else whole.rstrip("0")
        exponent = len(whole) - 1
    exponent -= NUMBER_MIN_EXPONENT
    if negative:
        end = "f" if len(digits) & 1 else "ff"
        return (
            _NEGATIVE
            + _EXPONENT_BYTES[255 - exponent]
            + bytes.fromhex(digits.translate(_TO_COMPLEMENT) + end)
        )
    end = "0" if len(digits) & 1 else "00"
    return (
        _POSITIVE + _EXPONENT_BYTES[exponent] + bytes.fromhex(digits.translate(_TO_NIBBLES) + end)
    )


def decode(data: bytes, start: int = 0) -> tuple[str, int]:
    """Read the number that `encode` put at `start`; return it and where it ends.

    Raises:
        ValueError: there is no number.
    """
    sign = data[start : start + 1]
    if sign == _ZERO:
        return "0", start + 1
    if sign not in (_NEGATIVE, _POSITIVE):
        raise ValueError(f"no encoded number at {start}: {data[start : start + 24]!r}")
    negative = sign == _NEGATIVE
    end_mark = "f" if negative else "0"
    nibbles = data[start + 2 : start + 2 + NUMBER_DIGITS // 2 + 1].hex()
    count = nibbles.find(end_mark)
    if count < 1:
        raise ValueError(f"the encoded number at {start} has no end: {data[start : start + 24]!r}")
    digits = nibbles[:count].translate(_FROM_COMPLEMENT if negative else _FROM_NIBBLES)
    exponent = 255 - data[start + 1] if negative else data[start + 1]
    exponent += NUMBER_MIN_EXPONENT
    return _plain(negative, digits, exponent), start + 2 + count // 2 + 1


def _build(negative: bool, digits: str, exponent: int) -> str:
    """Return the canonical text of digits * 10**exponent."""
    significant = digits.lstrip("0")
    leading = len(significant) + exponent - 1
    significant = significant.rstrip("0")
    if not significant:
        return "0"
    if leading > NUMBER_MAX_EXPONENT:
        raise ValidationError(
            "Number overflow. Attempting to store a number with magnitude larger than "
            "supported range"
        )
    if leading < NUMBER_MIN_EXPONENT:
        raise ValidationError(
            "Number underflow. Attempting to store a number with magnitude smaller than "
            "supported range"
        )
    if len(significant) > NUMBER_DIGITS:
        raise ValidationError("Attempting to store more than 38 significant digits in a Number")
    return _plain(negative, significant, leading)


def _plain(negative: bool, significant: str, leading: int) -> str:
    """Return the plain text of a number: its digits, the first of which counts 10**leading."""
    sign = "-" if negative else ""
    if leading < 0:
        return f"{sign}0.{'0' * (-leading - 1)}{significant}"
    whole = leading + 1
    if whole >= len(significant):
        return f"{sign}{significant}{'0' * (whole - len(significant))}"
    return f"{sign}{significant[:whole]}.{significant[whole:]}"


def _not_a_number(text: str) -> ValidationError:
    suffix = f": {text}" if text else ""
    return ValidationError(f"The parameter cannot be converted to a numeric value{suffix}")
