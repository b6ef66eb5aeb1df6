"""Global secondary indexes, materialized from the change log by way of a log of their own."""
