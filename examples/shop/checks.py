"""The shop's rules, which a node asks before it commits a write.

    streamtable serve --checks examples/shop/checks.py:app

They are not in `app.py`: a node needs nothing of what the workers do.
"""

from typing import Any

from streamtable import App, Refused

app = App("shop_rules")


@app.check("orders", on=("INSERT", "MODIFY"))
def total(_old: dict[str, Any] | None, new: dict[str, Any]) -> None:
    """Refuse what would have the shop pay."""
    if new["total"] < 0:
        raise Refused("an order's total can't be negative")
