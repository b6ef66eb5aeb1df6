"""What a trigger's `where` is written with.

from streamtable.where import changed, new, old

@app.trigger("orders", where=changed("status") & (new.total > 100))
"""

from streamtable.core.change_filters.predicates import (
    Predicate,
    changed,
    event_name,
    keys,
    new,
    old,
)

__all__ = ["Predicate", "changed", "event_name", "keys", "new", "old"]
