"""DynamoDB's semantics, pure and synchronous."""
