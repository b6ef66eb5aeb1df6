"""A small shop: what follows when its tables change.

`make shop` runs it, with traffic, beside a running node (`make run`). By itself:

    streamtable worker examples/shop/app.py:app

With STREAMTABLE_ELASTICSEARCH=http://127.0.0.1:9200 products are searched in Elasticsearch, too.
"""

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from botocore.exceptions import ClientError
from pydantic import BaseModel

from common import dynamodb, say
from streamtable import App, Change, Count, Distinct, Sum, Top
from streamtable.where import changed, new

app = App("shop")


class User(BaseModel):
    """An item of the table `users`."""

    id: str
    name: str
    email: str


class Order(BaseModel):
    """An item of the table `orders`."""

    order_id: str
    user_id: str
    product: str
    count: int
    total: Decimal
    status: Literal["new", "paid", "shipped", "cancelled"]
    placed_at: datetime


# Triggers: a function for each change. At least once, and in order for each item.


@app.trigger("users", on="INSERT")
async def welcome(change: Change[User]) -> None:
    """Print the mail, where a real shop would send it."""
    user = change.new
    assert user is not None  # an INSERT always has the new item
    say("mail", f"To: {user.email}  Subject: Welcome, {user.name}!")


@app.trigger("orders", where=changed("status") & (new.status == "shipped"))
async def on_its_way(change: Change[Order]) -> None:
    """Tell that a parcel has left; whatever else happens to an order is no call of this."""
    order = change.new
    assert order is not None  # the filter looks at the new item
    say("mail", f"To: {order.user_id}  Subject: Order {order.order_id} is on its way")


@app.trigger("orders")
def audit(change: Change) -> None:
    """Write down who did what to an order, in a table of its own.

    A change that comes again after a crash has the same position, so it overwrites its own entry.
    """
    old, now = change.old or {}, change.new or {}
    what = ", ".join(
        f"{name}: {old.get(name)} -> {now.get(name)}"
        for name in sorted({*old, *now})
        if old.get(name) != now.get(name)
    )
    dynamodb().put_item(
        TableName="audit",
        Item={
            "order_id": {"S": change.keys["order_id"]},
            "position": {"S": change.position.sequence_number},
            "at": {"S": change.created_at.isoformat()},
            "who": {"S": change.principal},
            "request": {"S": change.request_id},
            "event": {"S": change.event_name},
            "what": {"S": what},
        },
    )


# Views: tables that follow from others. Their rows are exact, and boto3 reads them.


@app.view("orders_by_status", source="orders", key=("status", "order_id"))
def orders_by_status(order: Order) -> dict[str, Any]:
    """One row for each order, under the status that it has."""
    return {"status": order.status, "order_id": order.order_id, "total": order.total}


@app.aggregate(
    "revenue_by_day",
    source="orders",
    key="day",
    measures={
        "orders": Count(),
        "revenue": Sum("total"),
        "customers": Distinct("user_id"),
        "largest": Top(3, by="total", show=("order_id", "total")),
    },
)
def revenue_by_day(order: Order) -> dict[str, Any] | None:
    """What an order adds to its day; what is cancelled later is taken back."""
    if order.status not in {"paid", "shipped"}:
        return None
    return {
        "day": order.placed_at.date().isoformat(),
        "total": order.total,
        "user_id": order.user_id,
        "order_id": order.order_id,
    }


@app.join(
    "orders_with_users",
    left="orders",
    right="users",
    on=("user_id", "id"),
    key=("order_id", "user_id"),
)
def orders_with_users(order: Order, user: User) -> dict[str, Any]:
    """Each order with its customer's name, which follows when the customer changes it."""
    return {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "name": user.name,
        "email": user.email,
        "total": order.total,
        "status": order.status,
    }


# A schedule: one of the workers calls it.


@app.every(15)
def report() -> None:
    """Print where the shop stands, from the views alone."""
    try:
        standing = ", ".join(
            f"{_count(status)} {status}" for status in ("new", "paid", "shipped", "cancelled")
        )
        today = {"day": {"S": datetime.now(UTC).date().isoformat()}}
        found = dynamodb().get_item(TableName="revenue_by_day", Key=today).get("Item")
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        say("report", "the views are being built")
        return
    say("report", f"orders: {standing}")
    if found is not None:
        revenue, orders = Decimal(found["revenue"]["N"]), found["orders"]["N"]
        say(
            "report", f"today {revenue:.2f} from {orders} orders of {found['customers']['N']} users"
        )


def _count(status: str) -> int:
    found = dynamodb().query(
        TableName="orders_by_status",
        KeyConditionExpression="#status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}},
        Select="COUNT",
    )
    count: int = found["Count"]
    return count


# Search: an Elasticsearch index that follows a table.

if os.environ.get("STREAMTABLE_ELASTICSEARCH"):
    app.search(
        "products",
        mapping={
            "properties": {
                "id": {"type": "keyword"},
                "name": {"type": "text"},
                "price": {"type": "double"},
                "stock": {"type": "integer"},
            }
        },
    )
