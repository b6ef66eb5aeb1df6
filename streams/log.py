"""What goes wrong with a log."""

from typing import Final

from aiokafka.errors import KafkaError

from streamtable.core.errors import StreamtableError

__all__ = ["CLIENT_ERRORS", "LogFenced", "LogUnavailable"]

CLIENT_ERRORS: Final = (KafkaError, OSError, RuntimeError)
"""What aiokafka raises while a broker is away; on a connection that uvloop has closed, the last."""


class LogUnavailable(StreamtableError, OSError):
    """The brokers gave no answer. The record of an append may be in the log, or not."""


class LogFenced(LogUnavailable):
    """Another node has taken a producer for the shard since this one did."""
