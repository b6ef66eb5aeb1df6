"""More shards: copies of the parents' rows, and what the parents have no more removed."""
