"""Copies of tables on demand, in object storage, and tables made of them."""
