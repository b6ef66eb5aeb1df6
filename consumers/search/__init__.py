"""Items of tables as documents of Elasticsearch, kept right by following the log."""
