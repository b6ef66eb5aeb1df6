"""UpdateItem: an expression changes an item, or makes one."""

from collections.abc import Callable
from typing import Any

from streamtable.core.expressions.condition import Condition
from streamtable.core.expressions.update import Update
from streamtable.core.images import Image
from streamtable.core.operations.conditions import plan_update_expressions
from streamtable.core.operations.keyed import find_keyed
from streamtable.core.operations.writes import Source, Write
from streamtable.core.tables import Table
from streamtable.core.values import Item, check_item_size, item_size

__all__ = ["UpdateItem", "plan_update"]


class UpdateItem(Write):
    """The plan of an UpdateItem, or of the Update of a transaction.

    Attributes:
        update: what to change; None only makes sure that the item exists.
    """

    __slots__ = ("update",)

    def __init__(
        self,
        table: Table,
        update: Update | None,
        located: tuple[Item, int, bytes],
        condition: Condition | None,
        source: Source,
    ) -> None:
        super().__init__(table, located, condition, source)
        self.update = update
        self.needs_old = True

    def evaluate(self, old: Item | None) -> tuple[Item | None, int]:
        """Return the item as the update leaves it.

        An update that only removes attributes makes no item where there was none.
        """
        if self.condition is not None:
            self.check(old)
        before = self.key if old is None else old
        if self.update is None:
            new = before
        else:
            new = self.update.apply(before)
            if new is before and old is None:
                return None, 0
        if new is old:
            return old, 0
        if self.table.indexes:
            self.table.check_index_keys(new, old)
        size = item_size(new)
        check_item_size(size, updated=True)
        return new, size

    def updated(self, image: Image | None) -> Item | None:
        """Return the parts of an image that the update is about."""
        if self.update is None or image is None:
            return None
        return self.update.updated_image(image.item)


def plan_update(body: dict[str, Any], find: Callable[[str], Table]) -> UpdateItem:
    """Check an UpdateItem request and plan its write. Source: API_UpdateItem.

    Args:
        body: the request, its shape already validated.
        find: returns the table of a name, or raises ResourceNotFound.

    Raises:
        ValidationError: one of DynamoDB's rules is broken.
        ResourceNotFound: there is no such table.
    """
    update, condition = plan_update_expressions(body)
    table = find_keyed(body, find)
    located = table.locate_key(body["Key"])
    if update is not None:
        update.check_keys(table.key_names)
    return UpdateItem(table, update, located, condition, ("UpdateItem", body))
