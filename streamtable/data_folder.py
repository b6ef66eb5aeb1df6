"""A node's data folder: one process at a time, and the node's own name in it."""

import fcntl
import os
import shutil
import uuid
from pathlib import Path

from streamtable.core.errors import StreamtableError

__all__ = ["DataFolder", "DataFolderInUse"]


class DataFolderInUse(StreamtableError, BlockingIOError):
    """Another process has the data folder."""


class DataFolder:
    """The folder, locked until `release` or the end of the process.

    Args:
        path: made if missing.
        shared: the folder that has the shards and the checkpoints, where several processes on
            one machine share them; None where they are in this folder.

    Raises:
        DataFolderInUse: another process holds it.
    """

    def __init__(self, path: Path, shared: Path | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._shared = path if shared is None else shared
        self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise DataFolderInUse(
                f"the data folder {path} is in use by another process. Stop it, or name another "
                "folder with --data."
            ) from None
        self.node = self._node_name()
        # Links that a killed process left would keep files of shards that it has no more.
        shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def broker(self) -> Path:
        """Where the embedded broker keeps its topics."""
        return self.path / "broker"

    @property
    def workers(self) -> Path:
        """Where the processes that share the folder have one each, and their sockets."""
        return self._shared / "workers"

    def shard(self, number: int) -> Path:
        """Where a shard's tables are."""
        return self._shared / "shards" / str(number)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints of the shards are kept, unless they are kept elsewhere."""
        return self._shared / "checkpoints"

    @property
    def peer_port(self) -> Path:
        """Keeps the port for other nodes that was chosen."""
        return self.path / "peer-port"

    @property
    def peer_sockets(self) -> Path | None:
        """Where processes that share the folder have sockets for each other, if it is shared."""
        return None if self._shared is self.path else self.workers

    @property
    def scratch(self) -> Path:
        """A place for files that nobody misses: what was in it is removed at each start."""
        return self.path / "scratch"

    def release(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)

    def _node_name(self) -> str:
        file = self.path / "node"
        if not file.exists():
            # Whole or not at all: a kill in between must not leave a node without a name.
            whole = file.with_suffix(".new")
            whole.write_text(f"node-{uuid.uuid4().hex[:12]}\n")
            whole.replace(file)
        return file.read_text().strip()
