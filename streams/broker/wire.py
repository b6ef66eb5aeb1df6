"""Kafka's wire types: messages described as data, compiled to readers and writers.

A message is a list of fields; a field has a type and the versions that carry it. `Message` compiles
one reader and one writer for each version, so that a handler sees plain dicts and never a version.
Sizes and counts that a client sends are checked against the bytes that are there, so that a short
frame can't make the broker allocate much. Source: Kafka's protocol guide
(https://kafka.apache.org/protocol), "Protocol Primitive Types", and KIP-482 (flexible versions).
"""

import struct
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

__all__ = [
    "BOOLEAN",
    "BYTES",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "NULLABLE",
    "STRING",
    "UUID",
    "Array",
    "Buffer",
    "Field",
    "Fixed",
    "Malformed",
    "Message",
    "Text",
    "Uuid",
    "skip_tags",
]

Buffer: TypeAlias = bytes | bytearray
Decoder: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
Encoder: TypeAlias = Callable[[bytearray, Any], None]

_LAST_VERSION: Final = 0x7FFF
_VARINT_BYTES: Final = 5
_NO_UUID: Final = bytes(16)


class Malformed(ValueError):
    """A frame that is not the message it says it is; the connection is closed."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned varint of at most 32 bits."""
    value = shift = 0
    for _ in range(_VARINT_BYTES):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed("a varint is longer than 5 bytes")


def write_varint(out: bytearray, value: int) -> None:
    """Append an unsigned varint."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def skip_tags(data: bytes, at: int) -> int:
    """Return the position after a section of tagged fields, none of which is needed."""
    count, at = read_varint(data, at)
    for _ in range(count):
        _, at = read_varint(data, at)
        size, at = read_varint(data, at)
        at += size
        if at > len(data):
            raise Malformed("a tagged field passes the end of the frame")
    return at


class Fixed:
    """A number of fixed size, big-endian."""

    def __init__(self, code: str, default: int | bool = 0) -> None:
        self._struct = struct.Struct(f">{code}")
        self.size = self._struct.size
        self.default = default

    def decoder(self, version: int, flexible: bool) -> Decoder:  # noqa: ARG002 - as every type
        """Compile the reader."""
        unpack, size = self._struct.unpack_from, self.size

        def decode(data: bytes, at: int) -> tuple[Any, int]:
            return unpack(data, at)[0], at + size

        return decode

    def encoder(self, version: int, flexible: bool) -> Encoder:  # noqa: ARG002 - as every type
        """Compile the writer."""
        pack = self._struct.pack

        def encode(out: bytearray, value: Any) -> None:
            out += pack(value)

        return encode


class Uuid:
    """A UUID; the zero one stands for none."""

    default = None

    def decoder(self, version: int, flexible: bool) -> Decoder:  # noqa: ARG002 - as every type
        """Compile the reader."""

        def decode(data: bytes, at: int) -> tuple[Any, int]:
            raw = data[at : at + 16]
            if len(raw) != 16:
                raise Malformed("a UUID passes the end of the frame")
            return (None if raw == _NO_UUID else uuid.UUID(bytes=raw)), at + 16

        return decode

    def encoder(self, version: int, flexible: bool) -> Encoder:  # noqa: ARG002 - as every type
        """Compile the writer."""

        def encode(out: bytearray, value: uuid.UUID | None) -> None:
            out += _NO_UUID if value is None else value.bytes

        return encode


def _length_decoder(code: str, flexible: bool) -> Decoder:
    """Read the length in front of a string, bytes or an array; -1 stands for null."""
    if flexible:

        def decode_compact(data: bytes, at: int) -> tuple[int, int]:
            length, at = read_varint(data, at)
            length -= 1
            if length > len(data) - at:
                raise Malformed(f"a length of {length} passes the end of the frame")
            return length, at

        return decode_compact
    fixed = struct.Struct(f">{code}")

    def decode(data: bytes, at: int) -> tuple[int, int]:
        (length,) = fixed.unpack_from(data, at)
        at += fixed.size
        if length < -1 or length > len(data) - at:
            raise Malformed(f"a length of {length} passes the end of the frame")
        return length, at

    return decode


def _length_encoder(code: str, flexible: bool) -> Encoder:
    if flexible:
        return lambda out, length: write_varint(out, length + 1)
    pack = struct.Struct(f">{code}").pack

    def encode(out: bytearray, length: int) -> None:
        out += pack(length)

    return encode


class Text:
    """A string, or null; null where an answer lacks a field of the nullable kind."""

    def __init__(self, *, null: bool = False) -> None:
        self.default = None if null else ""

    def decoder(self, version: int, flexible: bool) -> Decoder:  # noqa: ARG002 - as every type
        """Compile the reader."""
        read_length = _length_decoder("h", flexible)

        def decode(data: bytes, at: int) -> tuple[Any, int]:
            length, at = read_length(data, at)
            if length < 0:
                return None, at
            return data[at : at + length].decode(), at + length

        return decode

    def encoder(self, version: int, flexible: bool) -> Encoder:  # noqa: ARG002 - as every type
        """Compile the writer."""
        write_length = _length_encoder("h", flexible)

        def encode(out: bytearray, value: str | None) -> None:
            if value is None:
                write_length(out, -1)
                return
            raw = value.encode()
            write_length(out, len(raw))
            out += raw

        return encode


class Bytes:
    """Bytes, or null."""

    default = b""

    def decoder(self, version: int, flexible: bool) -> Decoder:  # noqa: ARG002 - as every type
        """Compile the reader."""
        read_length = _length_decoder("i", flexible)

        def decode(data: bytes, at: int) -> tuple[Any, int]:
            length, at = read_length(data, at)
            if length < 0:
                return None, at
            return bytes(data[at : at + length]), at + length

        return decode

    def encoder(self, version: int, flexible: bool) -> Encoder:  # noqa: ARG002 - as every type
        """Compile the writer."""
        write_length = _length_encoder("i", flexible)

        def encode(out: bytearray, value: bytes | None) -> None:
            if value is None:
                write_length(out, -1)
                return
            write_length(out, len(value))
            out += value

        return encode


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        name: the key in the dict.
        type: how it is written.
        since: the first version that carries it.
        until: the last version that carries it.
        default: written where the dict lacks the key; the type's own where this is None.
        tagged: carried as a tagged field, which the broker neither reads nor writes.
    """

    name: str
    type: "WireType"
    since: int = 0
    until: int = _LAST_VERSION
    default: Any = None
    tagged: bool = False

    def in_version(self, version: int) -> bool:
        """Tell whether the version carries this field in line."""
        return self.since <= version <= self.until and not self.tagged


class Array:
    """An array of values or of structures, or null."""

    def __init__(self, *items: "Field | WireType", null: bool = False) -> None:
        self.fields = [item for item in items if isinstance(item, Field)]
        values = [item for item in items if not isinstance(item, Field)]
        assert (len(values) == 1) != bool(self.fields)
        self.item = values[0] if values else None
        self.default: list[Any] | None = None if null else []

    def decoder(self, version: int, flexible: bool) -> Decoder:
        """Compile the reader."""
        read_length = _length_decoder("i", flexible)
        if self.item is None:
            read_item = _struct_decoder(self.fields, version, flexible)
        else:
            read_item = self.item.decoder(version, flexible)

        def decode(data: bytes, at: int) -> tuple[Any, int]:
            length, at = read_length(data, at)
            if length < 0:
                return None, at
            items = []
            for _ in range(length):
                item, at = read_item(data, at)
                items.append(item)
            return items, at

        return decode

    def encoder(self, version: int, flexible: bool) -> Encoder:
        """Compile the writer."""
        write_length = _length_encoder("i", flexible)
        if self.item is None:
            write_item = _struct_encoder(self.fields, version, flexible)
        else:
            write_item = self.item.encoder(version, flexible)

        def encode(out: bytearray, value: list[Any] | None) -> None:
            if value is None:
                write_length(out, -1)
                return
            write_length(out, len(value))
            for item in value:
                write_item(out, item)

        return encode


WireType: TypeAlias = Fixed | Uuid | Text | Bytes | Array

BOOLEAN: Final = Fixed("?", default=False)
INT8: Final = Fixed("b")
INT16: Final = Fixed("h")
INT32: Final = Fixed("i")
INT64: Final = Fixed("q")
UUID: Final = Uuid()
STRING: Final = Text()
NULLABLE: Final = Text(null=True)
BYTES: Final = Bytes()


def _struct_decoder(fields: Iterable[Field], version: int, flexible: bool) -> Decoder:
    steps = [
        (field.name, field.type.decoder(version, flexible))
        for field in fields
        if field.in_version(version)
    ]

    def decode(data: bytes, at: int) -> tuple[Any, int]:
        values = {}
        for name, read in steps:
            values[name], at = read(data, at)
        if flexible:
            at = skip_tags(data, at)
        return values, at

    return decode


def _struct_encoder(fields: Iterable[Field], version: int, flexible: bool) -> Encoder:
    steps = []
    for field in fields:
        if field.in_version(version):
            default = field.type.default if field.default is None else field.default
            steps.append((field.name, field.type.encoder(version, flexible), default))

    def encode(out: bytearray, values: dict[str, Any]) -> None:
        for name, write, default in steps:
            write(out, values.get(name, default))
        if flexible:
            out.append(0)

    return encode


class Message:
    """A request and its answer, in the versions that the broker speaks.

    Attributes:
        name: the API's name in Kafka.
        key: its number.
        first: the lowest version spoken.
        last: the highest version spoken.
        flexible: the first version with compact lengths and tagged fields.
        request: the request's fields.
        response: the answer's fields.
    """

    def __init__(
        self,
        name: str,
        key: int,
        versions: tuple[int, int, int],
        request: tuple[Field, ...],
        response: tuple[Field, ...],
    ) -> None:
        self.name = name
        self.key = key
        self.first, self.last, self.flexible = versions
        self.request = request
        self.response = response
        self._decoders: dict[int, Decoder] = {}
        self._encoders: dict[int, Encoder] = {}

    def decode(self, version: int, data: bytes, at: int) -> dict[str, Any]:
        """Read a request's body.

        Raises:
            Malformed: the bytes are not this message.
        """
        decoder = self._decoders.get(version)
        if decoder is None:
            decoder = _struct_decoder(self.request, version, version >= self.flexible)
            self._decoders[version] = decoder
        try:
            values, end = decoder(data, at)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise Malformed(f"{self.name} v{version}: {error}") from error
        if end != len(data):
            raise Malformed(f"{self.name} v{version}: {len(data) - end} bytes after its end")
        assert isinstance(values, dict)
        return values

    def encode(self, version: int, values: dict[str, Any], out: bytearray) -> None:
        """Append an answer's body to `out`; fields that `values` lacks have their default."""
        encoder = self._encoders.get(version)
        if encoder is None:
            encoder = _struct_encoder(self.response, version, version >= self.flexible)
            self._encoders[version] = encoder
        encoder(out, values)
