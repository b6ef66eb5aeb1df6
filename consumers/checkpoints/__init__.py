"""Shards frozen at an offset and kept in object storage."""
