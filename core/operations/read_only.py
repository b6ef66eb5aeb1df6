"""Views are read-only: their rows follow from other tables' items."""

from streamtable.core.documents import TableDocument, ViewDocument
from streamtable.core.errors import ValidationError
from streamtable.core.tables import Table

__all__ = ["check_changed_by_users", "check_time_to_live", "writable"]


def writable(table: Table) -> Table:
    """Return a table whose items clients may write.

    Raises:
        ValidationError: it is a view's.
    """
    if table.view is not None:
        raise ValidationError(_refusal(table.name, table.view))
    return table


def check_changed_by_users(document: TableDocument) -> None:
    """Check that a table is one that users see, which they may change and delete.

    Raises:
        ValidationError: it is one in which a view is built or keeps what it needs.
    """
    view = document.view
    if view is not None and document.hidden:
        raise ValidationError(
            f"{document.name} belongs to the view {view.key} and goes with it: change the table "
            f"{view.name} instead"
        )


def check_time_to_live(document: TableDocument) -> None:
    """Check that the items of a table may expire.

    Raises:
        ValidationError: it is a view's; the items that its rows follow from may expire.
    """
    if document.view is not None:
        raise ValidationError(_refusal(document.name, document.view))


def _refusal(name: str, view: ViewDocument) -> str:
    what = "the view" if name == view.name else "a table of the view"
    sources = " and ".join(view.sources)
    return (
        f"{name} is {what} {view.key}, which can only be read: its rows follow from the items of "
        f"{sources}. Change those instead."
    )
