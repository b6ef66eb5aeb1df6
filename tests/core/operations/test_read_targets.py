import pytest

from streamtable.core.operations.read_targets import read_targets

KEY = {"id": {"S": "a"}}
SELECT = {"Statement": "SELECT * FROM days"}
INDEXED = {"Statement": "SELECT * FROM days.by_total WHERE total = ?", "Parameters": [{"N": "1"}]}
INSERT = {"Statement": "INSERT INTO days VALUE {'id': 'a'}"}
BROKEN = {"Statement": "SELECT"}


@pytest.mark.parametrize(
    ("operation", "body", "found"),
    [
        ("GetItem", {"TableName": "days", "Key": KEY}, {("days", None)}),
        ("Query", {"TableName": "days", "IndexName": "by_total"}, {("days", "by_total")}),
        ("Scan", {"TableName": "days"}, {("days", None)}),
        ("BatchGetItem", {"RequestItems": {"a": {}, "b": {}}}, {("a", None), ("b", None)}),
        (
            "TransactGetItems",
            {"TransactItems": [{"Get": {"TableName": name, "Key": KEY}} for name in "aab"]},
            {("a", None), ("b", None)},
        ),
        ("ExecuteStatement", SELECT, {("days", None)}),
        ("ExecuteStatement", INDEXED, {("days", "by_total")}),
        ("ExecuteStatement", INSERT, set()),
        ("ExecuteStatement", BROKEN, set()),
        ("BatchExecuteStatement", {"Statements": [SELECT, BROKEN]}, {("days", None)}),
        ("ExecuteTransaction", {"TransactStatements": [SELECT]}, {("days", None)}),
        ("PutItem", {"TableName": "days", "Item": KEY}, set()),
        ("DescribeTable", {"TableName": "days"}, set()),
    ],
)
def test_what_a_request_reads(operation, body, found):
    assert read_targets(operation, body) == found
