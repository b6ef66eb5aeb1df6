import pytest

from streamtable.core.documents import UnitLimits
from streamtable.core.errors import ValidationError
from streamtable.core.operations.throughputs import parse_on_demand, parse_warm
from tests.core.operations.test_create_table import index, plan
from tests.core.operations.test_index_updates import UNITS, only, update

INVALID = "One or more parameter values were invalid: "
ON_DEMAND = "PAY_PER_REQUEST"


class TestOnDemand:
    def test_what_is_not_named_stays(self):
        first = parse_on_demand({"MaxReadRequestUnits": 5}, ON_DEMAND)
        assert first == UnitLimits(read_units=5)
        both = parse_on_demand({"MaxWriteRequestUnits": 9}, ON_DEMAND, first)
        assert both == UnitLimits(read_units=5, write_units=9)
        assert parse_on_demand({"MaxReadRequestUnits": -1}, ON_DEMAND, both) == UnitLimits(
            read_units=-1, write_units=9
        )
        assert parse_on_demand(None, "PROVISIONED", both) is both

    @pytest.mark.parametrize(
        ("raw", "billing", "message"),
        [
            (
                {"MaxReadRequestUnits": 5},
                "PROVISIONED",
                "OnDemandThroughput can only be specified when BillingMode is PAY_PER_REQUEST",
            ),
            (
                {"MaxWriteRequestUnits": 0},
                ON_DEMAND,
                "MaxWriteRequestUnits must be -1 or at least 1, and is 0",
            ),
        ],
    )
    def test_what_is_refused(self, raw, billing, message):
        with pytest.raises(ValidationError) as refused:
            parse_on_demand(raw, billing)
        assert refused.value.message == INVALID + message

    def test_an_index_of_a_provisioned_table_has_no_maximum(self):
        made = index(ProvisionedThroughput=UNITS, OnDemandThroughput={"MaxReadRequestUnits": 5})
        with pytest.raises(ValidationError, match="can only be specified when BillingMode"):
            plan(
                AttributeDefinitions=[
                    {"AttributeName": name, "AttributeType": "S"} for name in ("id", "mail")
                ],
                BillingMode="PROVISIONED",
                ProvisionedThroughput=UNITS,
                GlobalSecondaryIndexes=[made],
            )

    def test_maximums_end_with_the_billing_mode(self):
        limit = {"MaxReadRequestUnits": 5}
        table = update(plan(OnDemandThroughput=limit), {"Create": index(OnDemandThroughput=limit)})
        table = table.model_copy(
            update={"indexes": (only(table).model_copy(update={"status": "ACTIVE"}),)}
        )
        assert (table.on_demand, only(table).on_demand) == (UnitLimits(read_units=5),) * 2
        provisioned = update(
            table,
            {"Update": {"IndexName": "by_mail", "ProvisionedThroughput": UNITS}},
            BillingMode="PROVISIONED",
            ProvisionedThroughput=UNITS,
        )
        assert (provisioned.on_demand, only(provisioned).on_demand) == (None, None)
        assert only(provisioned).throughput.read_units == UNITS["ReadCapacityUnits"]


class TestWarm:
    def test_what_is_not_named_stays(self):
        first = parse_warm({"ReadUnitsPerSecond": 14_000})
        assert parse_warm({"WriteUnitsPerSecond": 5_000}, first) == UnitLimits(
            read_units=14_000, write_units=5_000
        )
        assert parse_warm(None, first) is first

    def test_what_is_refused(self):
        with pytest.raises(ValidationError) as refused:
            parse_warm({"ReadUnitsPerSecond": 0})
        assert refused.value.message == INVALID + "ReadUnitsPerSecond must be at least 1, and is 0"
