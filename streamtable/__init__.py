"""A self-hosted DynamoDB on a change log."""
