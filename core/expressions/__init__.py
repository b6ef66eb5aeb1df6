"""DynamoDB's expression languages: parsed once, evaluated on items."""
