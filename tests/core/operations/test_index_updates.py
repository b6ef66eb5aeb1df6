import itertools
from typing import Any

import pytest

from streamtable.core.documents import IndexDocument, TableDocument
from streamtable.core.errors import (
    LimitExceeded,
    ResourceInUse,
    ResourceNotFound,
    ValidationError,
)
from streamtable.core.operations.index_updates import finish_index
from streamtable.core.operations.update_table import plan_update_table
from tests.core.operations.test_create_table import index, plan

INVALID = "One or more parameter values were invalid: "


def update(document: TableDocument, *updates: dict[str, Any], **more: Any) -> TableDocument:
    numbers = itertools.count(100)
    names = {k["AttributeName"] for u in updates for k in u.get("Create", {}).get("KeySchema", [])}
    body: dict[str, Any] = {
        "TableName": "users",
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for n in sorted(names)],
        **more,
    }
    if updates:
        body["GlobalSecondaryIndexUpdates"] = list(updates)
    return plan_update_table(
        body,
        document,
        now=1_700_000_000.0,
        delay_s=0,
        new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
    )


def only(document: TableDocument) -> IndexDocument:
    (found,) = document.indexes
    return found


def test_the_life_of_an_index():
    creating = update(plan(), {"Create": index()})
    assert (only(creating).status, only(creating).backfilling) == ("CREATING", True)
    assert creating.attributes == {"id": "S", "mail": "S"}

    active = finish_index(creating, "by_mail")
    assert (only(active).status, only(active).backfilling) == ("ACTIVE", False)

    deleting = update(active, {"Delete": {"IndexName": "by_mail"}})
    assert only(deleting).status == "DELETING"

    gone = finish_index(deleting, "by_mail")
    assert gone.indexes == ()
    assert gone.attributes == {"id": "S"}


def test_a_name_used_again_has_other_rows():
    first = finish_index(update(plan(), {"Create": index()}), "by_mail")
    gone = finish_index(update(first, {"Delete": {"IndexName": "by_mail"}}), "by_mail")
    numbers = iter(["00000000-0000-4000-8000-000000000200"])
    again = plan_update_table(
        {
            "TableName": "users",
            "AttributeDefinitions": [{"AttributeName": "mail", "AttributeType": "S"}],
            "GlobalSecondaryIndexUpdates": [{"Create": index()}],
        },
        gone,
        now=0,
        delay_s=0,
        new_id=lambda: next(numbers),
    )
    assert only(again).id != only(first).id


def test_one_at_a_time():
    creating = update(plan(), {"Create": index()})
    with pytest.raises(LimitExceeded, match="Only 1 online index"):
        update(creating, {"Create": index("other", "other")})
    with pytest.raises(LimitExceeded, match="Only 1 online index"):
        update(plan(), {"Create": index()}, {"Create": index("other", "other")})


def test_an_index_that_is_being_filled_can_be_given_up():
    creating = update(plan(), {"Create": index()})
    deleting = update(creating, {"Delete": {"IndexName": "by_mail"}})
    assert (only(deleting).status, only(deleting).backfilling) == ("DELETING", False)
    with pytest.raises(LimitExceeded, match="Only 1 online index"):
        update(deleting, {"Delete": {"IndexName": "by_mail"}})
    assert finish_index(deleting, "by_mail").indexes == ()


def test_what_is_not_there_or_there_already():
    with pytest.raises(ResourceNotFound):
        update(plan(), {"Delete": {"IndexName": "none"}})
    active = finish_index(update(plan(), {"Create": index()}), "by_mail")
    with pytest.raises(ValidationError, match="Attempting to create an index which already exists"):
        update(active, {"Create": index()})


def test_definitions():
    with pytest.raises(ValidationError) as missing:
        update(plan(), {"Create": index()}, AttributeDefinitions=[])
    assert missing.value.message == (
        INVALID + "Some index key attributes are not defined in AttributeDefinitions. "
        "Keys: [mail], AttributeDefinitions: []"
    )
    unused = [{"AttributeName": n, "AttributeType": "S"} for n in ("mail", "more")]
    with pytest.raises(ValidationError, match="Some AttributeDefinitions are not used"):
        update(plan(), {"Create": index()}, AttributeDefinitions=unused)
    other = [{"AttributeName": n, "AttributeType": "N"} for n in ("id", "mail")]
    with pytest.raises(ValidationError, match="Attribute id is already defined as type S"):
        update(plan(), {"Create": index()}, AttributeDefinitions=other)


UNITS = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}


class TestThroughput:
    def provisioned(self) -> TableDocument:
        table = plan(BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
        create = {"Create": index(ProvisionedThroughput=UNITS)}
        return finish_index(update(table, create), "by_mail")

    def test_an_update(self):
        change = {"ReadCapacityUnits": 9, "WriteCapacityUnits": 9}
        request = {"Update": {"IndexName": "by_mail", "ProvisionedThroughput": change}}
        changed = update(self.provisioned(), request)
        assert only(changed).throughput.read_units == 9
        with pytest.raises(ValidationError, match="for the index by_mail will not change"):
            update(changed, request)

    def test_an_index_on_its_way(self):
        table = plan(BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
        creating = update(table, {"Create": index(ProvisionedThroughput=UNITS)})
        request = {"Update": {"IndexName": "by_mail", "ProvisionedThroughput": UNITS}}
        with pytest.raises(ResourceInUse, match="Index is being created: by_mail"):
            update(creating, request)

    def test_billing_takes_the_indexes_along(self):
        on_demand = update(self.provisioned(), BillingMode="PAY_PER_REQUEST")
        assert only(on_demand).throughput.read_units == 0
        with pytest.raises(ValidationError) as caught:
            update(on_demand, BillingMode="PROVISIONED", ProvisionedThroughput=UNITS)
        assert caught.value.message == (
            INVALID + "ProvisionedThroughput must be specified for index: by_mail"
        )
        back = update(
            on_demand,
            {"Update": {"IndexName": "by_mail", "ProvisionedThroughput": UNITS}},
            BillingMode="PROVISIONED",
            ProvisionedThroughput=UNITS,
        )
        assert only(back).throughput.read_units == 5
