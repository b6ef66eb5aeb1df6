"""The tables of a view, as its worker asks the node for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamtable.consumers.views.builds import SourceTable
from streamtable.consumers.views.nodes import Node, find_table
from streamtable.consumers.views.specs import ViewSpec

__all__ = ["SIDES", "STATE", "Described", "ViewTables", "part_name"]

SIDES: Final = "sides"
"""The part of a join with the items of both tables, under their join values."""

STATE: Final = "state"
"""The part of a join with those of them that its rows follow from already."""

_PAGE: Final = "/_streamtable/views"


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a table.

    Attributes:
        source: its id and key.
        items: about how many items it has.
        serving: whether it can be read; a view can't before it is built, and is another table then.
    """

    source: SourceTable
    items: int
    serving: bool


def part_name(name: str, generation: int, part: str) -> str:
    """Return the name of one of a generation's hidden tables."""
    return f"{name}~{generation}~{part}" if part else f"{name}~{generation}"


class ViewTables:
    """Makes and swaps the tables of one view. A call that is repeated does no harm.

    Every method raises a ConnectionError where no node answers.

    Args:
        node: the node.
        spec: the view.
    """

    def __init__(self, node: Node, spec: ViewSpec) -> None:
        self._node = node
        self._spec = spec

    async def describe(self, name: str) -> Described | None:
        """Return what is known of a table, None if there is none."""
        table = await find_table(self._node, name)
        if table is None:
            return None
        keys = tuple(element["AttributeName"] for element in table["KeySchema"])
        return Described(
            SourceTable(table["TableId"], keys),
            int(table.get("ItemCount", 0)),
            table["TableStatus"] != "CREATING",
        )

    async def create(self, generation: int, part: str = "") -> str:
        """Make a table of a new generation, or find it; return its id."""
        body = {
            "app": self._spec.app,
            "name": self._spec.name,
            "generation": generation,
            "kind": self._spec.kind,
            "sources": list(self._spec.sources),
            "part": part,
            "measures": {},
            "table": _PART_TABLE,
        }
        if not part:
            body["table"] = dict(self._spec.table)
            body["measures"] = {
                name: measure.definition() for name, measure in self._spec.measures.items()
            }
        answer = await self._node.post(f"{_PAGE}/create", body)
        return str(answer["id"])

    async def swap(self, generation: int) -> None:
        """Have clients read this generation from now on; the one before it is removed."""
        await self._node.post(f"{_PAGE}/swap", self._about(generation))

    async def drop(self, generation: int) -> None:
        """Remove the tables of a generation that is not read."""
        await self._node.post(f"{_PAGE}/drop", self._about(generation))

    async def delete(self, name: str) -> None:
        """Remove the table of the view's former name."""
        await self._node.call("DeleteTable", {"TableName": name})

    def _about(self, generation: int) -> dict[str, Any]:
        return {"app": self._spec.app, "name": self._spec.name, "generation": generation}


_PART_TABLE: Final[Mapping[str, Any]] = {
    "AttributeDefinitions": [
        {"AttributeName": "join", "AttributeType": "S"},
        {"AttributeName": "side", "AttributeType": "B"},
    ],
    "KeySchema": [
        {"AttributeName": "join", "KeyType": "HASH"},
        {"AttributeName": "side", "KeyType": "RANGE"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
