"""docs/compatibility.md and what it is made from, against the code and botocore's models."""

import re
from contextlib import closing

import pytest

from streamtable.core.compatibility import NOT_SERVED, REFUSED, REMARKS, WITHOUT_EFFECT
from streamtable.core.errors import ApiError
from streamtable.core.shapes.model import operations
from tests.fakes import CONTEXT
from tests.support.compatibility import (
    PAGE,
    SERVICES,
    covering,
    digest,
    page,
    parameters,
    serving,
)
from tests.support.reading import names_read
from tests.support.requests import Connection

SHAPES = {name: shape for service in SERVICES for name, shape in operations(service).items()}

# The choice that is left when its siblings, which are looked up, are not there.
REMAINING = {("UpdateTable", "GlobalSecondaryIndexUpdates[].Delete")}


@pytest.fixture(scope="module", autouse=True)
def _same_model():
    """AWS adds to its models; that is no fault of a checkout that was right when it was made."""
    known = re.search(r"<!-- model: (\w+) -->", PAGE.read_text())
    assert known is not None
    if known[1] != digest():
        pytest.skip(
            "botocore has a newer model of DynamoDB than docs/compatibility.md: `make docs`"
        )


@pytest.fixture(scope="module")
def served():
    return serving()


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_operation_is_served_or_listed_with_its_reason(served):
    assert set(SHAPES) == set(served) | set(NOT_SERVED)
    assert not set(served) & set(NOT_SERVED)


@pytest.mark.parametrize("operation", sorted(set(SHAPES) - set(NOT_SERVED)))
def test_no_parameter_is_ignored_in_silence(served, operation):
    read = names_read(served[operation])
    listed = {**REFUSED.get(operation, {}), **WITHOUT_EFFECT.get(operation, {})}
    ignored = [
        path
        for path, name in parameters(SHAPES[operation])
        if name not in read
        and covering(listed, path) is None
        and (operation, path) not in REMAINING
    ]
    assert not ignored, "nothing reads them: refuse them, or list them in core/compatibility.py"


def test_what_is_listed_exists(served):
    assert set(REMARKS) <= set(served)
    for listing in (REFUSED, WITHOUT_EFFECT):
        for operation, listed in listing.items():
            assert operation in served
            assert set(listed) <= {path for path, _ in parameters(SHAPES[operation])}, operation


@pytest.mark.parametrize(
    ("operation", "name"),
    [(operation, name) for operation in REFUSED for name in REFUSED[operation]],
)
async def test_a_refused_parameter_is_named(served, operation, name):
    body = {
        "TableName": "users",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
        name: [],
    }
    with pytest.raises(ApiError, match=f"{name} is not available in this version") as refused:
        await served[operation](body, CONTEXT)
    assert refused.value.status == 400


@pytest.mark.acceptance
def test_operations_that_are_not_served_say_so(endpoint):
    with closing(Connection(endpoint)) as connection:
        for operation in NOT_SERVED:
            status, answer = connection.call(operation)
            assert status == 400
            assert answer["__type"].endswith("#UnknownOperationException")
            assert answer["message"] == f"{operation} is not served by this version of streamtable"


class TestNamesRead:
    """The reading of code that the test of ignored parameters rests on."""

    def test_finds_what_is_looked_up_far_away(self, served):
        assert "Expected" in names_read(served["PutItem"])
        assert "NonKeyAttributes" in names_read(served["CreateTable"])
        assert "ReturnValuesOnConditionCheckFailure" in names_read(served["ExecuteTransaction"])

    def test_does_not_find_what_belongs_to_another_operation(self, served):
        assert "VectorIndexUpdates" not in names_read(served["PutItem"])
        assert "ScanFilter" not in names_read(served["GetItem"])
        assert "ConfirmRemoveSelfResourceAccess" not in names_read(served["PutResourcePolicy"])
