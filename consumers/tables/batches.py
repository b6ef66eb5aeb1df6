"""What goes into a batch of writes."""

from rocksdict import WriteBatch

__all__ = ["put"]


def put(batch: WriteBatch, key: bytes, value: bytes | None) -> None:
    """Have a batch keep a value under a key, or (None) remove the key."""
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)
