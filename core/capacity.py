"""Capacity units: what a read or a write costs, and how a response tells it.

Sources: "DynamoDB read and write operations" in the developer guide, API_ConsumedCapacity.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from streamtable.core.limits import READ_UNIT_BYTES, WRITE_UNIT_BYTES

__all__ = ["ConsumedCapacity", "add_by_table", "read_units", "write_units"]


def read_units(size_bytes: int, *, consistent: bool, transactional: bool = False) -> float:
    """Return the units that reading so many bytes costs, at least those of one block of 4 KB.

    GetItem counts each item for itself, Query and Scan the sum of all that they evaluated. An
    eventually consistent read costs half, a transactional one double.
    """
    blocks = max(1, -(-size_bytes // READ_UNIT_BYTES))
    if transactional:
        return 2.0 * blocks
    return float(blocks) if consistent else 0.5 * blocks


def write_units(size_bytes: int) -> float:
    """Return the units that a write costs, at least those of one block of 1 KB.

    The size is the larger one of the item before and the item after; the write of one that was
    not there and is not there afterwards counts 0 bytes. In a transaction it costs this twice.
    """
    return float(max(1, -(-size_bytes // WRITE_UNIT_BYTES)))


@dataclass(slots=True)
class ConsumedCapacity:
    """The units that one request consumed on one table.

    Attributes:
        table_name: the table, as the request named it.
        table: units of the table itself.
        local_indexes: units of each local index, by name.
        global_indexes: units of each global index, by name.
        transaction: whether these are the reads or the writes of a transaction, whose responses
            name the kind of the units; None for any other request.
    """

    table_name: str
    table: float = 0.0
    local_indexes: dict[str, float] = field(default_factory=dict)
    global_indexes: dict[str, float] = field(default_factory=dict)
    transaction: Literal["Read", "Write"] | None = None

    @property
    def total(self) -> float:
        """The units of the table and of all its indexes."""
        return self.table + sum(self.local_indexes.values()) + sum(self.global_indexes.values())

    def add(self, other: "ConsumedCapacity") -> None:
        """Add what another action of the same request consumed on the same table."""
        self.table += other.table
        for name, units in other.local_indexes.items():
            self.local_indexes[name] = self.local_indexes.get(name, 0.0) + units
        for name, units in other.global_indexes.items():
            self.global_indexes[name] = self.global_indexes.get(name, 0.0) + units

    def report(self, wanted: str | None) -> dict[str, Any] | None:
        """Return the response's ConsumedCapacity.

        Args:
            wanted: the request's ReturnConsumedCapacity. INDEXES shows the table and each index,
                TOTAL their sum; for NONE or nothing the answer is None.
        """
        if wanted == "TOTAL":
            return {"TableName": self.table_name, **self._units(self.total)}
        if wanted != "INDEXES":
            return None
        report = {
            "TableName": self.table_name,
            **self._units(self.total),
            "Table": self._units(self.table),
        }
        if self.local_indexes:
            report["LocalSecondaryIndexes"] = {
                name: self._units(units) for name, units in self.local_indexes.items()
            }
        if self.global_indexes:
            report["GlobalSecondaryIndexes"] = {
                name: self._units(units) for name, units in self.global_indexes.items()
            }
        return report

    def _units(self, units: float) -> dict[str, float]:
        if self.transaction is None:
            return {"CapacityUnits": units}
        return {"CapacityUnits": units, f"{self.transaction}CapacityUnits": units}


def add_by_table(consumed: dict[str, ConsumedCapacity], units: ConsumedCapacity) -> None:
    """Add what one action of a request consumed to what others did on the same table.

    Args:
        consumed: by the tables' names as the request has them; keeps `units` of a new table.
        units: the action's.
    """
    known = consumed.setdefault(units.table_name, units)
    if known is not units:
        known.add(units)
