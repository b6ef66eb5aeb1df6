"""Searches: Elasticsearch indexes that follow a table."""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from streamtable.core.values import Item
from streamtable.triggers.errors import InvalidDeclaration, InvalidHandler, InvalidRow
from streamtable.triggers.fingerprints import code_fingerprint, fingerprint
from streamtable.triggers.item_types import ItemType
from streamtable.triggers.names import check_name, check_table
from streamtable.triggers.signatures import Signature

__all__ = ["Search", "make_search"]

# Source: Elasticsearch's "Create index", path parameters.
_INDEX: Final = re.compile(r"(?!\.{1,2}$)[^-_+\\/*?\"<>| ,#:A-Z][^\\/*?\"<>| ,#:A-Z]{0,199}")
_MAX_INTEGER: Final = 2**63


@dataclass(frozen=True, kw_only=True)
class Search:
    """An Elasticsearch index that has a document for each item of a table.

    Attributes:
        name: it is known by it in its app.
        table: the table that it follows.
        index: the index's name, an alias of the one that is in force.
        mapping: the index's mapping, `{"properties": {...}}`; None leaves it to Elasticsearch.
        settings: the index's settings; None for Elasticsearch's own.
        transform: makes an item's document, a JSON object; None for the item itself.
        item: makes the function's argument of an item.
        was: the name that it had before.
    """

    name: str
    table: str
    index: str
    mapping: Mapping[str, Any] | None
    settings: Mapping[str, Any] | None
    transform: Callable[..., Any] | None = field(compare=False)
    item: ItemType = field(compare=False)
    was: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The tables that it follows."""
        return (self.table,)

    def document(self, item: Item) -> dict[str, Any] | None:
        """Return the document of an item, as JSON; None if it is to have none.

        Numbers become integers or floats, binary base64, sets sorted lists, times ISO 8601.

        Raises:
            InvalidRow: the function returned something that is no document.
            Exception: the function raised, or the item does not fit its model.
        """
        found = self.item.read(item)
        made = found if self.transform is None else self.transform(found)
        if made is None:
            return None
        document = _json(made)
        if not isinstance(document, dict):
            raise InvalidRow(
                f"the function of {self.name} returned {made!r}: a document is a dict or a model"
            )
        return document

    def definition(self) -> dict[str, Any]:
        """Return what the app declared, as JSON; see `View.definition` for the fingerprints."""
        declared = {
            "kind": "search",
            "table": self.table,
            "index": self.index,
            "mapping": None if self.mapping is None else dict(self.mapping),
            "settings": None if self.settings is None else dict(self.settings),
        }
        code = None if self.transform is None else code_fingerprint(self.transform)
        return {**declared, "fingerprint": fingerprint(declared), "code": code}


def make_search(
    name: str,
    *,
    table: str,
    index: str,
    mapping: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
    transform: Callable[..., Any] | None,
    was: str | None,
) -> Search:
    """Check a search's declaration; see `App.search`."""
    check_name("a search", name)
    check_table(table)
    if not _INDEX.fullmatch(index):
        raise InvalidDeclaration(
            f"{index!r} can't be the name of an Elasticsearch index: lower case, at most 200 "
            'characters, none of \\ / * ? " < > | , # : and space, and not - _ + at its start'
        )
    annotation = None
    function = name
    if transform is not None:
        signature = Signature.read(transform)
        function = signature.name
        if signature.is_async:
            raise InvalidHandler(
                f"{function} is async: it makes a document of an item, nothing else"
            )
        if not signature.takes(1):
            raise InvalidHandler(f"{function}{signature.text} must take one item")
        annotation = signature.annotations[0]
    return Search(
        name=name,
        table=table,
        index=index,
        mapping=mapping,
        settings=settings,
        transform=transform,
        item=ItemType(annotation, function),
        was=was,
    )


def _json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _json(value.model_dump())
    if isinstance(value, Decimal):
        whole = value == value.to_integral_value() and abs(value) < _MAX_INTEGER
        return int(value) if whole else float(value)
    if isinstance(value, (bytes, bytearray)):
        return b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(name): _json(member) for name, member in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_json(member) for member in value), key=lambda each: (str(type(each)), each))
    if isinstance(value, (list, tuple)):
        return [_json(member) for member in value]
    return to_jsonable_python(value)
