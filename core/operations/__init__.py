"""DynamoDB's operations as plans: pure functions from a request to what is to be done."""
