"""PartiQL for DynamoDB: statements are parsed once and planned as the operations they mean."""
