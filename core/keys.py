"""Keys: which attributes identify an item, and where its row is in the store.

A row key is the table's prefix, a 64-bit hash of the partition key, the encoded partition key and
the encoded sort key. So the rows of one partition are together, ordered by their sort key, and a
table's rows are in the order of the hash, as a Scan returns them. Each component's encoding keeps
the order of its type and ends itself: no component's encoding is the prefix of another's.

Sources: API_KeySchemaElement; "Partition keys and sort keys" for the limits.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from streamtable.core import numbers
from streamtable.core.errors import INVALID, ValidationError
from streamtable.core.limits import PARTITION_KEY_BYTES, SORT_KEY_BYTES
from streamtable.core.values import Item, Value, parse_item, type_of, value_size

__all__ = [
    "HASH_BYTES",
    "KeyAttribute",
    "KeySchema",
    "after_prefix",
    "component_prefix",
    "decode_component",
    "encode_component",
    "encode_text",
    "partition_hash",
    "place_row",
    "prefix_bounds",
    "row_key",
]

HASH_BYTES: Final = 8
"""Length of the hash in a row key, after the table's prefix."""

_NOT_VALID: Final = "One or more parameter values are not valid. "
_EMPTY_KINDS: Final = {"S": "string", "B": "binary"}
# Keys of so many characters fit the limits in bytes, whatever the characters are.
_SHORT: Final = min(PARTITION_KEY_BYTES, SORT_KEY_BYTES) // 4


@dataclass(frozen=True, slots=True)
class KeyAttribute:
    """One attribute of a key.

    Attributes:
        name: the attribute's name.
        type: S, N or B.
    """

    name: str
    type: str


class KeySchema:
    """The key of a table or an index.

    A table has one partition attribute and at most one sort attribute; a global index up to four
    of each. Immutable.

    Attributes:
        partition: the attributes of the partition key.
        sort: the attributes of the sort key, none for a simple key.
        attributes: both, the partition key first.
        names: the names of all, in the same order.
    """

    __slots__ = ("_partition_name", "_sort_name", "attributes", "names", "partition", "sort")

    def __init__(
        self, partition: tuple[KeyAttribute, ...], sort: tuple[KeyAttribute, ...] = ()
    ) -> None:
        self.partition = partition
        self.sort = sort
        self.attributes = partition + sort
        self.names = tuple(attribute.name for attribute in self.attributes)
        # The usual case, one attribute, is encoded without a loop.
        self._partition_name = partition[0].name if len(partition) == 1 else None
        self._sort_name = sort[0].name if len(sort) == 1 else None

    def __eq__(self, other: object) -> bool:
        """Compare the attributes."""
        if not isinstance(other, KeySchema):
            return NotImplemented
        return self.partition == other.partition and self.sort == other.sort

    def __hash__(self) -> int:
        """Hash the attributes."""
        return hash((self.partition, self.sort))

    def __repr__(self) -> str:
        """Show the attributes."""
        return f"KeySchema(partition={self.partition!r}, sort={self.sort!r})"

    def extract(self, item: Item) -> Item:
        """Return the key attributes of an item that has them all, unchecked."""
        return {name: item[name] for name in self.names}

    def key_of_item(self, item: Item) -> Item:
        """Return the key of a canonical item that is to be put.

        Raises:
            ValidationError: a key attribute is missing, of another type, empty or too long.
        """
        key = {}
        for attribute in self.attributes:
            name = attribute.name
            value = item.get(name)
            if value is None:
                raise ValidationError(f"{INVALID}Missing the key {name} in the item")
            if attribute.type not in value:
                raise ValidationError(
                    f"{INVALID}Type mismatch for key {name} expected: {attribute.type} "
                    f"actual: {type_of(value)}"
                )
            key[name] = value
        self._check_contents(key)
        return key

    def parse_key(self, raw: Any) -> Item:
        """Check the Key parameter of a request; return it in canonical form, in schema order.

        Raises:
            SerializationError: something in it has the wrong JSON type.
            ValidationError: it is not a key of this schema, or a value is empty or too long.
        """
        given, _ = parse_item(raw)
        if len(given) != len(self.names):
            raise _mismatch()
        key = {}
        for attribute in self.attributes:
            value = given.get(attribute.name)
            if value is None or attribute.type not in value:
                raise _mismatch()
            key[attribute.name] = value
        self._check_contents(key)
        return key

    def fits(self, item: Item) -> bool:
        """Say whether a canonical item has all key attributes, none that could not be a key.

        An item may have been there before an index was: then nobody has checked it.
        """
        length = 0
        for attribute in self.attributes:
            value = item.get(attribute.name)
            if value is None:
                return False
            content = value.get(attribute.type)
            if not content:
                return False
            length += len(content)
        # A character has at most four bytes, so most keys are short enough at first sight.
        if length * 4 <= SORT_KEY_BYTES:
            return True
        partition = sum(value_size(item[attribute.name]) for attribute in self.partition)
        sort = sum(value_size(item[attribute.name]) for attribute in self.sort)
        return partition <= PARTITION_KEY_BYTES and sort <= SORT_KEY_BYTES

    def check_index_key(self, item: Item, index_name: str, old: Item | None = None) -> None:
        """Check the attributes of a canonical item that are keys of an index; it may lack some.

        Args:
            item: the item as it is to be.
            index_name: the index, for messages.
            old: the item before an update; what it had already is not checked again.

        Raises:
            ValidationError: a key attribute of the index is of another type, empty or too long.
        """
        if old is not None and all(item.get(name) == old.get(name) for name in self.names):
            return
        key = {}
        for attribute in self.attributes:
            name = attribute.name
            value = item.get(name)
            if value is None:
                continue
            if attribute.type not in value:
                raise ValidationError(
                    f"{INVALID}Type mismatch for Index Key {name} Expected: {attribute.type} "
                    f"Actual: {type_of(value)} IndexName: {index_name}"
                )
            if not value[attribute.type]:
                raise ValidationError(
                    f"{_NOT_VALID}A value specified for a secondary index key is not supported. "
                    "The AttributeValue for a key attribute cannot contain an empty "
                    f"{_EMPTY_KINDS[attribute.type]} value. IndexName: {index_name}, "
                    f"IndexKey: {name}"
                )
            key[name] = value
        self._check_index_sizes(key, index_name)

    def encode_partition(self, item: Mapping[str, Value]) -> bytes:
        """Return the encoded partition key of an item or a key."""
        if self._partition_name is not None:
            return encode_component(item[self._partition_name])
        return b"".join(encode_component(item[attribute.name]) for attribute in self.partition)

    def encode_sort(self, item: Mapping[str, Value]) -> bytes:
        """Return the encoded sort key of an item or a key, empty for a simple key."""
        if self._sort_name is not None:
            return encode_component(item[self._sort_name])
        return b"".join(encode_component(item[attribute.name]) for attribute in self.sort)

    def locate(self, table_prefix: bytes, item: Mapping[str, Value]) -> tuple[int, bytes]:
        """Return the partition hash and the row key of an item or a key."""
        sort = self.encode_sort(item) if self.sort else b""
        return place_row(table_prefix, self.encode_partition(item), sort)

    def _check_contents(self, key: Item) -> None:
        length = 0
        for attribute in self.attributes:
            content = key[attribute.name][attribute.type]
            if not content:
                raise ValidationError(
                    f"{_NOT_VALID}The AttributeValue for a key attribute cannot contain an empty "
                    f"{_EMPTY_KINDS[attribute.type]} value. Key: {attribute.name}"
                )
            length += len(content)
        if length > _SHORT:
            self.check_sizes(key)

    def _check_index_sizes(self, key: Item, index_name: str) -> None:
        """Refuse keys of an index that are too long; attributes may be missing."""
        for part, limit in ((self.partition, PARTITION_KEY_BYTES), (self.sort, SORT_KEY_BYTES)):
            for attribute in part:
                value = key.get(attribute.name)
                size = 0 if value is None else value_size(value)
                if size > limit:
                    raise ValidationError(
                        f"{INVALID}Size limit exceeded for Index Key {attribute.name} Actual Size: "
                        f"{size} bytes Max Size: {limit} bytes IndexName: {index_name}"
                    )
        if len(self.partition) > 1 or len(self.sort) > 1:
            self.check_sizes(key)

    def check_sizes(self, key: Item) -> None:
        """Check that a key, or what is given of one, is not too long.

        Raises:
            ValidationError: it is.
        """
        size = sum(value_size(key[a.name]) for a in self.partition if a.name in key)
        if size > PARTITION_KEY_BYTES:
            raise ValidationError(
                f"{INVALID}Size of hashkey has exceeded the maximum size limit "
                f"of{PARTITION_KEY_BYTES} bytes"
            )
        size = sum(value_size(key[a.name]) for a in self.sort if a.name in key)
        if size > SORT_KEY_BYTES:
            raise ValidationError(
                f"{INVALID}Aggregated size of all range keys has exceeded the size limit "
                f"of {SORT_KEY_BYTES} bytes"
            )


# Strings and binary: the bytes, a zero byte as 00 FF, and 00 00 as the end.
_END: Final = b"\x00\x00"
_ESCAPED_ZERO: Final = b"\x00\xff"


def encode_component(value: Value) -> bytes:
    """Return a canonical string, number or binary value as bytes that sort as the values do.

    The encoding ends itself. Values of different types are not comparable by it.
    """
    text = value.get("S")
    if text is not None:
        return encode_text(text)
    if "N" in value:
        return numbers.encode(value["N"])
    return component_prefix(value) + _END


def encode_text(text: str) -> bytes:
    """Return what `encode_component` does for a string."""
    data = text.encode()
    return (data.replace(b"\x00", _ESCAPED_ZERO) if b"\x00" in data else data) + _END


def component_prefix(value: Value) -> bytes:
    """Return what the encodings of all values that begin with this string or binary begin with."""
    data = value["S"].encode() if "S" in value else a2b_base64(value["B"])
    return data.replace(b"\x00", _ESCAPED_ZERO) if b"\x00" in data else data


def prefix_bounds(before: bytes, value: Value) -> tuple[bytes, bytes]:
    """Return the range of row keys whose component after `before` begins with a string or binary.

    The start is in the range, the end is not.
    """
    start = before + component_prefix(value)
    return start, after_prefix(start)


def decode_component(kind: str, data: bytes, start: int = 0) -> tuple[Value, int]:
    """Read the component of type S, N or B at `start`; return it and where it ends.

    Raises:
        ValueError: there is no such component.
    """
    if kind == "N":
        text, end = numbers.decode(data, start)
        return {"N": text}, end
    position = data.find(b"\x00", start)
    while position >= 0 and data[position + 1 : position + 2] == b"\xff":
        position = data.find(b"\x00", position + 2)
    if position < 0 or data[position : position + 2] != _END:
        raise ValueError(f"the component at {start} has no end")
    content = data[start:position].replace(_ESCAPED_ZERO, b"\x00")
    end = position + len(_END)
    if kind == "S":
        return {"S": content.decode()}, end
    return {"B": b2a_base64(content, newline=False).decode()}, end


def partition_hash(encoded_partition: bytes) -> int:
    """Return the 64-bit hash of an encoded partition key, which decides its shard."""
    return int.from_bytes(_digest(encoded_partition), "big")


def place_row(
    table_prefix: bytes, encoded_partition: bytes, encoded_sort: bytes = b""
) -> tuple[int, bytes]:
    """Return the hash of a partition key, and the key of an item's row."""
    digest = _digest(encoded_partition)
    place = table_prefix + digest + encoded_partition + encoded_sort
    return int.from_bytes(digest, "big"), place


def row_key(table_prefix: bytes, encoded_partition: bytes, encoded_sort: bytes = b"") -> bytes:
    """Return the key of an item's row; without a sort key, what its whole partition begins with."""
    return table_prefix + _digest(encoded_partition) + encoded_partition + encoded_sort


def after_prefix(prefix: bytes) -> bytes:
    """Return the smallest key above all keys that begin with `prefix`.

    Raises:
        ValueError: there is none, the prefix has only FF bytes.
    """
    kept = prefix.rstrip(b"\xff")
    if not kept:
        raise ValueError(f"no key is above all that begin with {prefix!r}")
    return kept[:-1] + bytes([kept[-1] + 1])


def _digest(encoded_partition: bytes) -> bytes:
    return blake2b(encoded_partition, digest_size=HASH_BYTES).digest()


def _mismatch() -> ValidationError:
    return ValidationError("The provided key element does not match the schema")
