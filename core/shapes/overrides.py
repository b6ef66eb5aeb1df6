"""Where the service answers otherwise than botocore's model of it says.

The model is written for clients. These tables hold what the service itself is known to do, each
keyed by the model's own names, so that a newer botocore changes nothing here.
"""

from streamtable.core.limits import (
    STREAM_PAGE_RECORDS,
    STREAM_PAGE_SHARDS,
    STREAM_PAGE_STREAMS,
)

__all__ = [
    "ENUM_ORDERS",
    "EXISTING",
    "LENGTHS",
    "MEMBERS",
    "OPTIONAL",
    "PATTERNS",
    "UNLESS_ARN",
    "UNQUOTED",
]

# (structure, member) -> the shape that the service checks the member against. Data-plane
# operations take an ARN as `TableName` and so have the wider shape; a new table has a name.
MEMBERS: dict[tuple[str, str], str] = {
    ("CreateTableInput", "TableName"): "TableName",
}

# Shapes that take an ARN or a name -> the shape that the service checks a name against.
UNLESS_ARN: dict[str, str] = {"TableArn": "TableName"}

# How the names of tables that there are may look, beyond those of new ones: the tables in which a
# view is built, or keeps what it needs, have the name of the view and its generation's number.
EXISTING: dict[str, str] = {"TableName": r"[a-zA-Z0-9_.-]+(?:~[0-9]+(?:~[a-z]+)?)?"}

# Required members that the service misses later, and in words of its own.
OPTIONAL: frozenset[tuple[str, str]] = frozenset(
    {
        ("CreateTableInput", "TableName"),
        ("DeleteTableInput", "TableName"),
        ("DescribeTableInput", "TableName"),
        ("UpdateTableInput", "TableName"),
    }
)

# Members whose faults the service tells without their value, with capitals in the path.
UNQUOTED: frozenset[tuple[str, str]] = frozenset(
    {("KeysAndAttributes", "Keys"), ("QueryInput", "Limit")}
)

# (structure, member) -> (least, most) elements, or the least and the most number. A table's own
# key and a local index's have at most two attributes; the shape is shared with global indexes,
# which take several. A batch of no table is told otherwise. Streams answer at most so many of each
# at once.
LENGTHS: dict[tuple[str, str], tuple[int | None, int | None]] = {
    ("BatchGetItemInput", "RequestItems"): (0, 100),
    ("BatchWriteItemInput", "RequestItems"): (0, 25),
    ("CreateTableInput", "KeySchema"): (1, 2),
    ("LocalSecondaryIndex", "KeySchema"): (1, 2),
    ("TableCreationParameters", "KeySchema"): (1, 2),
    ("DescribeStreamInput", "Limit"): (1, STREAM_PAGE_SHARDS),
    ("GetRecordsInput", "Limit"): (1, STREAM_PAGE_RECORDS),
    ("ListStreamsInput", "Limit"): (1, STREAM_PAGE_STREAMS),
}

# Enum shape -> its values in the order in which the service prints them. A value that is in the
# model only is printed after these.
ENUM_ORDERS: dict[str, tuple[str, ...]] = {
    "AttributeAction": ("ADD", "DELETE", "PUT"),
    "BillingMode": ("PROVISIONED", "PAY_PER_REQUEST"),
    "ComparisonOperator": (
        "IN",
        "NULL",
        "BETWEEN",
        "LT",
        "NOT_CONTAINS",
        "EQ",
        "GT",
        "NOT_NULL",
        "NE",
        "LE",
        "BEGINS_WITH",
        "GE",
        "CONTAINS",
    ),
    "ConditionalOperator": ("OR", "AND"),
    "KeyType": ("HASH", "RANGE"),
    "ProjectionType": ("ALL", "INCLUDE", "KEYS_ONLY"),
    "ReturnConsumedCapacity": ("INDEXES", "TOTAL", "NONE"),
    "ReturnItemCollectionMetrics": ("SIZE", "NONE"),
    "ReturnValue": ("ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW"),
    "ReturnValuesOnConditionCheckFailure": ("ALL_OLD", "NONE"),
    "ScalarAttributeType": ("B", "N", "S"),
    "Select": ("SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"),
}

# A pattern of the model, in Java's syntax -> the same in Python's, where they differ.
PATTERNS: dict[str, str] = {
    r"\p{Print}+": r"[\x20-\x7e]+",
    r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*": (
        r"[\u0020-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF\r\n\t]*"
    ),
}
