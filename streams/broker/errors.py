"""Why the embedded broker does not start."""

from pathlib import Path

from streamtable.core.errors import StreamtableError

__all__ = ["DamagedSegment", "DataInUse", "PortTaken"]


class DataInUse(StreamtableError, BlockingIOError):
    """Another process holds the data folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"the data folder {folder} is in use by another process. Stop that process, or choose "
            "another folder"
        )
        self.folder = folder


class PortTaken(StreamtableError, OSError):
    """Another process listens on the broker's port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} is taken by another process. Stop that process, or choose another port"
        )
        self.host = host
        self.port = port


class DamagedSegment(StreamtableError, ValueError):
    """A file of the log has bytes that it was not given, in front of good ones.

    A torn tail is no damage: it was never acknowledged, and is cut off. Bytes in the middle were,
    so the broker does not start over them, and deletes nothing.
    """

    def __init__(self, path: Path, position: int, reason: str) -> None:
        super().__init__(
            f"{path} is damaged at byte {position}: {reason}, but valid data follows. Restore the "
            f"file from a copy; to give up everything after that byte instead, cut it there: "
            f"truncate -s {position} {path}"
        )
        self.path = path
        self.position = position
