"""Every limit of DynamoDB, once.

Sources: "Service, account, and table quotas in Amazon DynamoDB" and "DynamoDB item sizes and
formats" in the developer guide, and the constraints in the API reference. Sizes are in bytes.
"""

from typing import Final

__all__ = [
    "ATTRIBUTE_NAME_BYTES",
    "BATCH_READ_BYTES",
    "BATCH_READ_ITEMS",
    "BATCH_WRITE_ITEMS",
    "COMPOSITE_KEY_ATTRIBUTES",
    "EXPRESSION_BYTES",
    "EXPRESSION_OPERATORS",
    "GLOBAL_INDEXES",
    "IN_OPERANDS",
    "ITEM_BYTES",
    "ITEM_COLLECTION_BYTES",
    "ITERATOR_AGE_S",
    "KEY_ATTRIBUTE_NAME_BYTES",
    "LIST_BACKUPS_PAGE",
    "LIST_TABLES_PAGE",
    "LOCAL_INDEXES",
    "NESTING_LEVELS",
    "NON_KEY_ATTRIBUTES",
    "NUMBER_DIGITS",
    "NUMBER_MAX_EXPONENT",
    "NUMBER_MIN_EXPONENT",
    "PAGE_BYTES",
    "PARTITION_KEY_BYTES",
    "PLACEHOLDER_BYTES",
    "POLICY_BYTES",
    "PROVISIONED_UNITS",
    "READ_UNIT_BYTES",
    "RESTORES",
    "SORT_KEY_BYTES",
    "STREAM_KEPT_S",
    "STREAM_PAGE_BYTES",
    "STREAM_PAGE_RECORDS",
    "STREAM_PAGE_SHARDS",
    "STREAM_PAGE_STREAMS",
    "TABLE_OPERATIONS",
    "TAGS",
    "TAGS_PAGE",
    "TRANSACTION_BYTES",
    "WRITE_UNIT_BYTES",
]

# Items: "Items", "Item size", "Attributes".
ITEM_BYTES: Final = 400 * 1024
"""An item with its attribute names."""

ITEM_COLLECTION_BYTES: Final = 10 * 1024**3
"""All items of a partition key, in a table with local indexes and in these."""

ATTRIBUTE_NAME_BYTES: Final = 65_535
"""An attribute's name, UTF-8."""

KEY_ATTRIBUTE_NAME_BYTES: Final = 255
"""The name of an attribute in a key of a table or an index."""

NESTING_LEVELS: Final = 32
"""Levels of an attribute's value, the innermost scalar counted."""

# Keys: "Partition keys and sort keys".
PARTITION_KEY_BYTES: Final = 2048
"""The value of a partition key."""

SORT_KEY_BYTES: Final = 1024
"""The value of a sort key; all sort attributes of an index together."""

# Numbers: "Data types", Number.
NUMBER_DIGITS: Final = 38
"""Significant digits."""

NUMBER_MAX_EXPONENT: Final = 125
"""Largest exponent in scientific notation: below 1E+126."""

NUMBER_MIN_EXPONENT: Final = -130
"""Smallest exponent in scientific notation: from 1E-130."""

# Expressions: "Expression parameters".
EXPRESSION_BYTES: Final = 4096
"""The text of an expression, placeholders as they stand."""

PLACEHOLDER_BYTES: Final = 255
"""A placeholder for a name or a value, its `#` or `:` counted."""

EXPRESSION_OPERATORS: Final = 300
"""Operators and functions of an expression."""

IN_OPERANDS: Final = 100
"""What IN compares with."""

# Capacity: "DynamoDB read and write operations".
READ_UNIT_BYTES: Final = 4096
"""What one read unit covers, strongly consistent."""

WRITE_UNIT_BYTES: Final = 1024
"""What one write unit covers."""

# Reading and writing: API_Query, API_BatchGetItem, API_BatchWriteItem, API_TransactWriteItems.
PAGE_BYTES: Final = 1024 * 1024
"""Items read by a Query or a Scan; the one with which it is reached is the page's last."""

BATCH_READ_ITEMS: Final = 100
"""Keys in a BatchGetItem."""

BATCH_READ_BYTES: Final = 16 * 1024 * 1024
"""Items in the answer of a BatchGetItem; the keys beyond are unprocessed."""

BATCH_WRITE_ITEMS: Final = 25
"""Puts and deletes in a BatchWriteItem."""

TRANSACTION_BYTES: Final = 4 * 1024 * 1024
"""Items of a transaction, those that it reads or those that it writes."""

# Tables: "Secondary indexes", "Tagging", "Resource-based policies", API_ListTables.
LOCAL_INDEXES: Final = 5
"""Local indexes of a table."""

GLOBAL_INDEXES: Final = 20
"""Global indexes of a table."""

COMPOSITE_KEY_ATTRIBUTES: Final = 4
"""Attributes in each part of a global index's key."""

NON_KEY_ATTRIBUTES: Final = 100
"""Attributes that all indexes of a table project by name."""

PROVISIONED_UNITS: Final = 1_000_000_000_000
"""Units of a provisioned throughput; more are out of bounds."""

LIST_TABLES_PAGE: Final = 100
"""Names in an answer of ListTables."""

LIST_BACKUPS_PAGE: Final = 100
"""Backups in an answer of ListBackups."""

TABLE_OPERATIONS: Final = 500
"""Operations on tables that are under way at once; backups are counted here."""

RESTORES: Final = 50
"""Tables that are being restored at once."""

TAGS: Final = 50
"""Tags of a table."""

TAGS_PAGE: Final = 10
"""Tags in an answer of ListTagsOfResource."""

POLICY_BYTES: Final = 20 * 1024
"""The text of a resource policy, white space counted."""

# Streams: API_streams_GetRecords, API_streams_DescribeStream, API_streams_ListStreams.
ITERATOR_AGE_S: Final = 15 * 60
"""How long a shard iterator can be used, seconds."""

STREAM_KEPT_S: Final = 24 * 3600
"""How long a stream can be read after it was switched off, seconds."""

STREAM_PAGE_BYTES: Final = 1024 * 1024
"""Records in an answer of GetRecords, by their SizeBytes."""

STREAM_PAGE_RECORDS: Final = 1000
"""Records in an answer of GetRecords."""

STREAM_PAGE_SHARDS: Final = 100
"""Shards in an answer of DescribeStream."""

STREAM_PAGE_STREAMS: Final = 100
"""Streams in an answer of ListStreams."""
