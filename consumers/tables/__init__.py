"""Tables, materialized from the change log into RocksDB."""
