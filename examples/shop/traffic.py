"""Customers: they sign up, order, pay, change their minds. Until Ctrl-C."""

import os
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from common import dynamodb, say

PAUSE_S: Final = float(os.environ.get("SHOP_PAUSE_S", "0.7"))
_NAMES: Final = (
    "Ada",
    "Grace",
    "Alan",
    "Barbara",
    "Edsger",
    "Frances",
    "Donald",
    "Radia",
    "Leslie",
)
_PRODUCTS: Final = (
    ("teapot", "A red teapot for two", "24.90"),
    ("kettle", "A kettle that whistles", "39.00"),
    ("cup", "A cup with a blue rim", "8.50"),
    ("tray", "An oak tray", "31.20"),
    ("tea", "Darjeeling, first flush, 250 g", "18.75"),
)
_STOCK: Final = 40
_OPEN_ORDERS: Final = 40


class Traffic:
    """Does one thing after another, at random, and says what.

    Args:
        choose: the source of chance.
    """

    def __init__(self, choose: random.Random) -> None:
        self._choose = choose
        self._users: list[str] = []
        self._orders: dict[str, str] = {}
        self._checked: bool | None = None

    def open_shop(self) -> None:
        """Put the products on the shelf, those that are not there yet."""
        for name, text, price in _PRODUCTS:
            item = {
                "id": {"S": name},
                "name": {"S": text},
                "price": {"N": price},
                "stock": {"N": str(_STOCK)},
            }
            try:
                dynamodb().put_item(
                    TableName="products", Item=item, ConditionExpression="attribute_not_exists(id)"
                )
            except dynamodb().exceptions.ConditionalCheckFailedException:
                continue
        self._sign_up()

    def step(self) -> None:
        """Do one thing."""
        deeds: list[tuple[Callable[[], None], int]] = [
            (self._order, 10),
            (self._move_on, 12),
            (self._sign_up, 2),
            (self._rename, 1),
            (self._cheat, 0 if self._checked is False else 1),
        ]
        [deed] = self._choose.choices(
            [deed for deed, _ in deeds], weights=[weight for _, weight in deeds]
        )
        deed()

    def _sign_up(self) -> None:
        name = self._choose.choice(_NAMES)
        user = f"{name.lower()}-{self._choose.randrange(1000)}"
        item = {"id": user, "name": name, "email": f"{user}@example.com"}
        dynamodb().put_item(
            TableName="users", Item={key: {"S": value} for key, value in item.items()}
        )
        self._users.append(user)
        say("traffic", f"{user} signs up")

    def _rename(self) -> None:
        user, name = self._choose.choice(self._users), self._choose.choice(_NAMES)
        dynamodb().update_item(
            TableName="users",
            Key={"id": {"S": user}},
            UpdateExpression="SET #name = :name",
            ExpressionAttributeNames={"#name": "name"},
            ExpressionAttributeValues={":name": {"S": name}},
        )
        say("traffic", f"{user} is called {name} now")

    def _order(self) -> None:
        """Place an order and take it from the stock, both or neither."""
        if len(self._orders) >= _OPEN_ORDERS:
            self._move_on()
            return
        user = self._choose.choice(self._users)
        product, _, price = self._choose.choice(_PRODUCTS)
        count = self._choose.randint(1, 4)
        total = Decimal(price) * count
        order = _order_item(user, product, count, total)
        take = {
            "TableName": "products",
            "Key": {"id": {"S": product}},
            "UpdateExpression": "SET stock = stock - :count",
            "ConditionExpression": "stock >= :count",
            "ExpressionAttributeValues": {":count": {"N": str(count)}},
        }
        place = {"TableName": "orders", "Item": order}
        try:
            dynamodb().transact_write_items(TransactItems=[{"Put": place}, {"Update": take}])
        except dynamodb().exceptions.TransactionCanceledException:
            say("traffic", f"{user} wants {count} x {product}, which is sold out: more of it comes")
            dynamodb().update_item(
                TableName="products",
                Key={"id": {"S": product}},
                UpdateExpression="SET stock = stock + :more",
                ExpressionAttributeValues={":more": {"N": str(_STOCK)}},
            )
            return
        order_id = order["order_id"]["S"]
        self._orders[order_id] = "new"
        say("traffic", f"{user} orders {count} x {product} for {total}: order {order_id}")

    def _move_on(self) -> None:
        """Have an order paid, shipped or cancelled."""
        if not self._orders:
            self._order()
            return
        order_id = self._choose.choice(list(self._orders))
        status = "shipped"
        if self._orders[order_id] == "new":
            status = "cancelled" if self._choose.random() < 1 / 8 else "paid"
        dynamodb().update_item(
            TableName="orders",
            Key={"order_id": {"S": order_id}},
            UpdateExpression="SET #status = :status",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": {"S": status}},
        )
        if status == "paid":
            self._orders[order_id] = status
        else:
            del self._orders[order_id]
        say("traffic", f"order {order_id} is {status}")

    def _cheat(self) -> None:
        """Try what the shop's check refuses."""
        order = _order_item("mallory", "tea", 1, Decimal("-99.00"))
        try:
            dynamodb().put_item(TableName="orders", Item=order)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            self._checked = True
            say("traffic", f"mallory's order is refused: {error.response['Error']['Message']}")
        else:
            self._checked = False
            dynamodb().delete_item(TableName="orders", Key={"order_id": order["order_id"]})
            say(
                "traffic", "mallory's order of -99.00 was taken: this node checks nothing. Start it"
            )
            say("traffic", 'with: make run ARGS="--checks examples/shop/checks.py:app"')


def _order_item(user: str, product: str, count: int, total: Decimal) -> dict[str, Any]:
    return {
        "order_id": {"S": uuid.uuid4().hex[:8]},
        "user_id": {"S": user},
        "product": {"S": product},
        "count": {"N": str(count)},
        "total": {"N": str(total)},
        "status": {"S": "new"},
        "placed_at": {"S": datetime.now(UTC).isoformat()},
    }


def main() -> None:
    """Go on until Ctrl-C; wait while the node is away."""
    traffic = Traffic(random.Random())  # noqa: S311 - no secret is made of it
    traffic.open_shop()
    while True:
        try:
            traffic.step()
        except (BotoCoreError, ClientError) as error:
            say("traffic", f"that went wrong, the next try comes in a second: {error}")
            time.sleep(1)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
