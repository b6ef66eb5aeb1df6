"""What consumers keep beside their positions, in a table that ListTables leaves out."""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import orjson

from streamtable.consumers.triggers.state import HOLDER, HeldByAnother
from streamtable.core.documents import PAY_PER_REQUEST, KeyElement, TableDocument
from streamtable.core.errors import ResourceInUse, ResourceNotFound, StreamtableError
from streamtable.settings import NodeSettings
from streamtable.streams.catalog import Catalog

__all__ = [
    "CONDITION_FAILED",
    "STATE_TABLE",
    "Call",
    "TableStateStore",
    "cancellation_codes",
    "create_state_table",
]

STATE_TABLE: Final = "streamtable.state"
_ACTIONS: Final = 25

CONDITION_FAILED: Final = "ConditionalCheckFailed"
"""Why an action of a transaction was not done: what it depends on is not so."""

Call: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Carries out one of DynamoDB's operations, given its name and body."""


async def create_state_table(catalog: Catalog, settings: NodeSettings) -> None:
    """Make the table if it is not there.

    Raises:
        CatalogUnavailable: the outcome is unknown.
    """
    try:
        catalog.table(STATE_TABLE)
    except ResourceNotFound:
        document = TableDocument(
            name=STATE_TABLE,
            id=str(uuid.uuid4()),
            region=settings.region,
            account=settings.account,
            created=time.time(),
            attributes={"owner": "S", "id": "S"},
            keys=(KeyElement(name="owner", kind="HASH"), KeyElement(name="id", kind="RANGE")),
            billing=PAY_PER_REQUEST,
            billing_named=True,
            deletion_protection=True,
            hidden=True,
        )
        try:
            await catalog.create(document)
        except ResourceInUse:
            return  # another node was first


class TableStateStore:
    """Keeps JSON values under an owner and an id, as items of the table.

    Args:
        call: carries out an operation; what it raises is raised here.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    async def load(self, owner: str) -> dict[str, dict[str, Any]]:
        """Return everything that an owner keeps, by id, in the order of the ids."""
        body = {
            "TableName": STATE_TABLE,
            "KeyConditionExpression": "#o = :o",
            "ExpressionAttributeNames": {"#o": "owner"},
            "ExpressionAttributeValues": {":o": {"S": owner}},
            "ConsistentRead": True,
        }
        found = {}
        while True:
            answer = await self._call("Query", body)
            for item in answer["Items"]:
                found[item["id"]["S"]] = orjson.loads(item["value"]["S"])
            if "LastEvaluatedKey" not in answer:
                return found
            body = {**body, "ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def save(
        self,
        owner: str,
        items: Mapping[str, dict[str, Any] | None],
        holder: str | None = None,
    ) -> None:
        """Replace values, or remove those that are None; durable on return.

        Up to 25 are replaced all or none; of more, 25 after 25.

        Args:
            owner: whose they are.
            items: the values by id.
            holder: they are replaced only where this is the `id` of the owner's value `HOLDER`.

        Raises:
            HeldByAnother: it is not.
        """
        actions = [_action(owner, each, value) for each, value in items.items()]
        check = [] if holder is None else [_check(owner, holder)]
        for first in range(0, len(actions), _ACTIONS):
            body = {
                "TransactItems": [*check, *actions[first : first + _ACTIONS]],
                "ClientRequestToken": uuid.uuid4().hex,
            }
            try:
                await self._call("TransactWriteItems", body)
            except StreamtableError as error:
                if CONDITION_FAILED in cancellation_codes(error):
                    raise HeldByAnother(f"{owner} is held by another worker now") from error
                raise


def cancellation_codes(error: StreamtableError) -> list[str]:
    """Return why each action of a transaction that a node has cancelled was not done."""
    reasons = getattr(error, "body", {}).get("CancellationReasons") or ()
    return [str(reason.get("Code")) for reason in reasons]


def _check(owner: str, holder: str) -> dict[str, Any]:
    """Return what makes a transaction depend on who holds an owner's values."""
    return {
        "ConditionCheck": {
            "TableName": STATE_TABLE,
            "Key": {"owner": {"S": owner}, "id": {"S": HOLDER}},
            "ConditionExpression": "#v = :v",
            "ExpressionAttributeNames": {"#v": "value"},
            "ExpressionAttributeValues": {":v": {"S": _text({"id": holder})}},
        }
    }


def _action(owner: str, each: str, value: dict[str, Any] | None) -> dict[str, Any]:
    key = {"owner": {"S": owner}, "id": {"S": each}}
    if value is None:
        return {"Delete": {"TableName": STATE_TABLE, "Key": key}}
    item = {**key, "value": {"S": _text(value)}}
    return {"Put": {"TableName": STATE_TABLE, "Item": item}}


def _text(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()
