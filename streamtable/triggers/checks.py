"""Checks: functions that may refuse a write before it is committed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from streamtable.core.changes import INSERT, MODIFY, REMOVE
from streamtable.core.values import Item
from streamtable.triggers.errors import InvalidHandler, Refused
from streamtable.triggers.fingerprints import code_fingerprint
from streamtable.triggers.item_types import ItemType
from streamtable.triggers.names import check_name, check_table
from streamtable.triggers.signatures import Signature

__all__ = ["Check", "make_check"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A function that is asked before a write of a table's item is committed.

    Attributes:
        name: it is known by it in its app.
        table: the table.
        events: the kinds of change that it is asked about.
        function: takes the item before and the item after; raises `Refused` to refuse.
        old_item: makes the function's first argument of an item.
        new_item: makes its second one.
    """

    name: str
    table: str
    events: frozenset[str]
    function: Callable[..., Any] = field(compare=False)
    old_item: ItemType = field(compare=False)
    new_item: ItemType = field(compare=False)

    def run(self, old: Item | None, new: Item | None) -> None:
        """Ask the function, if it wants to be asked about this change.

        Args:
            old: the item before in canonical wire form, None if there was none.
            new: the item after, None if it is removed.

        Raises:
            Refused: the write is not to be made; also where `new` does not fit the model.
            Exception: the function failed, or `old` does not fit the model.
        """
        event = INSERT if old is None else REMOVE if new is None else MODIFY
        if event not in self.events:
            return
        before = None if old is None else self.old_item.read(old)
        try:
            after = None if new is None else self.new_item.read(new)
        except ValidationError as error:
            raise Refused(f"{self.name}: {_reason(error, self.new_item.name)}") from error
        answer = self.function(before, after)
        if answer is not None:
            # Whoever writes `return False` means to refuse.
            raise TypeError(
                f"{self.name} returned {answer!r}: a check raises Refused, or returns nothing"
            )

    def definition(self) -> dict[str, Any]:
        """Return what the app declared, as JSON."""
        return {
            "kind": "check",
            "table": self.table,
            "on": sorted(self.events),
            "code": code_fingerprint(self.function),
        }


def make_check(
    name: str, function: Callable[..., Any], *, table: str, events: frozenset[str]
) -> Check:
    """Check a check's declaration; see `App.check`."""
    check_name("a check", name)
    check_table(table)
    signature = Signature.read(function)
    if signature.is_async:
        raise InvalidHandler(
            f"{signature.name} is async: a check runs in the node while the item is locked, it "
            "does not wait for anything"
        )
    if not signature.takes(2):
        raise InvalidHandler(
            f"{signature.name}{signature.text} must take the old item and the new item"
        )
    old, new = (ItemType(each, signature.name) for each in signature.annotations[:2])
    return Check(
        name=name, table=table, events=events, function=function, old_item=old, new_item=new
    )


def _reason(error: ValidationError, model: str) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"the item does not fit {model}: {where}: {first['msg']}"
