import itertools
from typing import Any

import pytest

from streamtable.core.errors import ValidationError
from streamtable.core.operations.create_table import plan_create_table

INVALID = "One or more parameter values were invalid: "


def definitions(**types: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]


def schema(*names: str) -> list[dict[str, str]]:
    kinds = ("HASH", "RANGE")
    return [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, kinds, strict=False)
    ]


def request(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "TableName": "users",
        "AttributeDefinitions": definitions(id="S"),
        "KeySchema": schema("id"),
        "BillingMode": "PAY_PER_REQUEST",
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def plan(delay_s: float = 0, **changes: Any):
    numbers = itertools.count(1)
    return plan_create_table(
        request(**changes),
        region="local",
        account="000000000000",
        now=1_700_000_000.25,
        delay_s=delay_s,
        new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
    )


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        plan(**changes)
    return caught.value.message


def index(name: str = "by_mail", *keys: str, projection: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "IndexName": name,
        "KeySchema": schema(*(keys or ("mail",))),
        "Projection": projection or {"ProjectionType": "ALL"},
        **more,
    }


def test_a_simple_table():
    document = plan()

    assert document.name == "users"
    assert document.arn == "arn:aws:dynamodb:local:000000000000:table/users"
    assert document.status == "ACTIVE"
    assert document.attributes == {"id": "S"}
    assert document.on_demand_since == document.created


def test_a_table_that_takes_its_time():
    document = plan(delay_s=2)

    assert document.status == "CREATING"
    assert document.status_until == document.created + 2


def test_a_table_with_everything():
    document = plan(
        BillingMode=None,
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 6},
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        SSESpecification={"Enabled": True, "SSEType": "KMS"},
        Tags=[{"Key": "team", "Value": "shop"}],
        TableClass="STANDARD_INFREQUENT_ACCESS",
        DeletionProtectionEnabled=True,
    )

    assert document.billing == "PROVISIONED"
    assert (document.throughput.read_units, document.throughput.write_units) == (5, 6)
    assert document.stream is not None
    assert document.stream.label == "2023-11-14T22:13:20.250"
    assert document.encrypted
    assert document.tags == {"team": "shop"}
    assert document.table_class == "STANDARD_INFREQUENT_ACCESS"
    assert document.deletion_protection


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}},
            INVALID + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when "
            "BillingMode is PAY_PER_REQUEST",
        ),
        (
            {"BillingMode": None},
            INVALID + "ReadCapacityUnits and WriteCapacityUnits must both be specified when "
            "BillingMode is PROVISIONED",
        ),
        (
            {
                "BillingMode": "PROVISIONED",
                "ProvisionedThroughput": {
                    "ReadCapacityUnits": 10**12 + 1,
                    "WriteCapacityUnits": 1,
                },
            },
            "Given value 1000000000001 for ReadCapacityUnits is out of bounds",
        ),
        (
            {"OnDemandThroughput": {"MaxReadRequestUnits": 0}},
            INVALID + "MaxReadRequestUnits must be -1 or at least 1, and is 0",
        ),
    ],
)
def test_rules_of_capacity(changes, message):
    assert refusal(**changes) == message


@pytest.mark.parametrize(
    ("types", "keys", "message"),
    [
        (
            {"id": "S"},
            [{"AttributeName": "id", "KeyType": "RANGE"}],
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            {"id": "S", "at": "N"},
            [
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "at", "KeyType": "HASH"},
            ],
            "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type",
        ),
        (
            {"id": "S"},
            schema("id", "id"),
            "Invalid KeySchema: Some index key attribute have no definition",
        ),
        (
            {"id": "S", "at": "N"},
            schema("id", "id"),
            "Both the Hash Key and the Range Key element in the KeySchema have the same name",
        ),
        (
            {"id": "S"},
            schema("id", "at"),
            "Invalid KeySchema: Some index key attribute have no definition",
        ),
        (
            {"mail": "S"},
            schema("id"),
            INVALID + "Some index key attributes are not defined in AttributeDefinitions. "
            "Keys: [id], AttributeDefinitions: [mail]",
        ),
        (
            {"id": "S", "mail": "S"},
            schema("id"),
            INVALID + "Number of attributes in KeySchema does not exactly match number of "
            "attributes defined in AttributeDefinitions",
        ),
    ],
)
def test_rules_of_keys(types, keys, message):
    assert refusal(AttributeDefinitions=definitions(**types), KeySchema=keys) == message


def test_an_attribute_defined_twice():
    twice = definitions(id="S") + definitions(id="N")
    assert refusal(AttributeDefinitions=twice) == "Cannot have two attributes with the same name"


def test_members_that_the_model_leaves_optional():
    assert refusal(AttributeDefinitions=None, KeySchema=None) == (
        "2 validation errors detected: Value null at 'attributeDefinitions' failed to satisfy "
        "constraint: Member must not be null; Value null at 'keySchema' failed to satisfy "
        "constraint: Member must not be null"
    )


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (
            {"StreamEnabled": False, "StreamViewType": "KEYS_ONLY"},
            INVALID + "Table is being created with a stream disabled, UpdateViewType should not "
            "be specified",
        ),
        (
            {"StreamEnabled": True},
            INVALID + "Table is being created with a stream enabled, UpdateViewType should be "
            "specified",
        ),
    ],
)
def test_rules_of_streams(stream, message):
    assert refusal(StreamSpecification=stream) == message


@pytest.mark.parametrize("name", ["VectorIndexes", "GlobalTableSourceArn"])
def test_what_is_not_built_is_refused(name):
    assert name in refusal(**{name: "x"})


class TestIndexes:
    def test_indexes_of_both_kinds(self):
        document = plan(
            AttributeDefinitions=definitions(id="S", at="N", mail="S", total="N"),
            KeySchema=schema("id", "at"),
            LocalSecondaryIndexes=[index("by_total", "id", "total")],
            GlobalSecondaryIndexes=[
                index(
                    projection={"ProjectionType": "INCLUDE", "NonKeyAttributes": ["name"]},
                )
            ],
        )

        local, world = document.indexes
        assert (local.name, local.scope) == ("by_total", "LOCAL")
        assert (world.name, world.scope) == ("by_mail", "GLOBAL")
        assert world.projection.attributes == ("name",)
        assert len({local.id, world.id, document.id}) == 3

    def test_a_composite_key_of_a_global_index(self):
        names = [f"p{n}" for n in range(4)] + [f"s{n}" for n in range(4)]
        document = plan(
            AttributeDefinitions=definitions(id="S", **dict.fromkeys(names, "S")),
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "wide",
                    "KeySchema": [
                        {"AttributeName": n, "KeyType": "HASH" if n[0] == "p" else "RANGE"}
                        for n in names
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
        assert [key.name for key in document.indexes[0].keys] == names

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"LocalSecondaryIndexes": []}, INVALID + "List of LocalSecondaryIndexes is empty"),
            ({"GlobalSecondaryIndexes": []}, INVALID + "List of GlobalSecondaryIndexes is empty"),
            (
                {"LocalSecondaryIndexes": [index()]},
                INVALID + "Table KeySchema does not have a range key, which is required when "
                "specifying a LocalSecondaryIndex",
            ),
            (
                {"GlobalSecondaryIndexes": [index("a", "nowhere")]},
                INVALID + "Some index key attributes are not defined in AttributeDefinitions. "
                "Keys: [nowhere], AttributeDefinitions: [id, mail]",
            ),
            (
                {"GlobalSecondaryIndexes": [index(), index()]},
                INVALID + "Duplicate index name: by_mail",
            ),
            (
                {"GlobalSecondaryIndexes": [index("by_id", "id")]},
                INVALID + "Some AttributeDefinitions are not used. AttributeDefinitions: "
                "[id, mail], keys used: [id]",
            ),
            (
                {"GlobalSecondaryIndexes": [index(str(n)) for n in range(21)]},
                INVALID + "GlobalSecondaryIndex count exceeds the per-table limit of 20",
            ),
            (
                {
                    "GlobalSecondaryIndexes": [
                        index(
                            ProvisionedThroughput={
                                "ReadCapacityUnits": 1,
                                "WriteCapacityUnits": 1,
                            }
                        )
                    ]
                },
                INVALID + "ProvisionedThroughput should not be specified for index: by_mail when "
                "BillingMode is PAY_PER_REQUEST",
            ),
            (
                {"GlobalSecondaryIndexes": [index(projection={"ProjectionType": "INCLUDE"})]},
                INVALID + "ProjectionType is INCLUDE, but NonKeyAttributes is not specified",
            ),
            (
                {
                    "GlobalSecondaryIndexes": [
                        index(projection={"ProjectionType": "ALL", "NonKeyAttributes": ["a"]})
                    ]
                },
                INVALID + "ProjectionType is ALL, but NonKeyAttributes is specified",
            ),
        ],
    )
    def test_rules(self, changes, message):
        assert refusal(AttributeDefinitions=definitions(id="S", mail="S"), **changes) == message

    def test_a_local_index_has_the_partition_key_of_its_table(self):
        message = refusal(
            AttributeDefinitions=definitions(id="S", at="N", mail="S"),
            KeySchema=schema("id", "at"),
            LocalSecondaryIndexes=[index("x", "mail", "at")],
        )
        assert message == (
            INVALID + "Index KeySchema does not have the same leading hash key as table KeySchema "
            "for index: x. index hash key: mail, table hash key: id"
        )
