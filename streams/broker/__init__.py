"""A single-node broker that speaks Kafka's protocol."""
