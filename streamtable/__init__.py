"""A self-hosted DynamoDB on a change log."""

from streamtable.triggers import App, Change

__all__ = ["App", "Change"]
