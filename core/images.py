"""The stored form of an item: its version, its size, and its attributes as DynamoDB's JSON.

An image is what RocksDB keeps, what the overlay holds and what a read answers with. Its JSON is
kept as bytes, so that GetItem and Query answer without parsing it; `item` parses on demand.
`encode` and `decode` are the one place where an image becomes bytes and comes back.
"""

import struct
from typing import Any

import orjson

from streamtable.core.formats import refuse_newer

__all__ = ["Image"]

# format version of the encoding, item size in bytes, time part of the version, length of region
_HEADER = struct.Struct(">BIQB")
_FORMAT = 1


class Image:
    """One version of one item. Immutable: never change what `item` returns.

    Attributes:
        json: the item as a DynamoDB JSON object, for example `{"id":{"S":"a"}}`, UTF-8.
        size_bytes: the item's size by DynamoDB's rules (at most 400 KB).
        time: hybrid logical clock of the write: milliseconds << 16 | counter; grows with each
            version of the item.
        region: name of the region that wrote it; with `time`, the item's version.
    """

    __slots__ = ("_item", "json", "region", "size_bytes", "time")

    def __init__(
        self,
        json: bytes,
        size_bytes: int,
        time: int,
        region: str,
        item: dict[str, Any] | None = None,
    ) -> None:
        self.json = json
        self.size_bytes = size_bytes
        self.time = time
        self.region = region
        self._item = item

    @classmethod
    def of_item(cls, item: dict[str, Any], size_bytes: int, time: int, region: str) -> "Image":
        """Return an image of a parsed item, whose JSON is made when it is first asked for."""
        image = cls(b"", size_bytes, time, region, item)
        del image.json
        return image

    def __getattr__(self, name: str) -> bytes:
        # Asked only for what is not set, so an image that has its JSON pays nothing for this.
        if name != "json":
            raise AttributeError(name)
        self.json = made = orjson.dumps(self._item)
        return made

    @property
    def item(self) -> dict[str, Any]:
        """The item in wire form, `{"name": {"S": "value"}}`; parsed once, not to be changed."""
        if self._item is None:
            self._item = orjson.loads(self.json)
        return self._item

    @property
    def parsed(self) -> bool:
        """Whether the parsed item is kept."""
        return self._item is not None

    def forget_item(self) -> None:
        """Keep only the JSON, which takes a fraction of the memory; `item` parses it again."""
        assert self.json
        self._item = None

    def encode(self) -> bytes:
        """Return the image as bytes for the store."""
        region = self.region.encode()
        return _HEADER.pack(_FORMAT, self.size_bytes, self.time, len(region)) + region + self.json

    @classmethod
    def decode(cls, data: bytes) -> "Image":
        """Read what `encode` made.

        Raises:
            NewerFormat: the bytes are of a newer format than this version knows.
        """
        version, size_bytes, time, region_length = _HEADER.unpack_from(data)
        if version != _FORMAT:
            refuse_newer("an item's image", version, _FORMAT)
        start = _HEADER.size + region_length
        return cls(data[start:], size_bytes, time, data[_HEADER.size : start].decode())
