"""DynamoDB operations, executed on the shards."""
