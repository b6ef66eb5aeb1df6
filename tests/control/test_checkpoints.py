"""The pages about checkpoints, where the storage is in trouble."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamtable.consumers.checkpoints.objects import Objects, StorageUnavailable
from streamtable.control.checkpoints import CheckpointPages
from streamtable.core.errors import ServiceUnavailable
from streamtable.streams.layout import Layout


async def test_who_asks_hears_what_is_wrong_with_the_storage(tmp_path: Path) -> None:
    async def take() -> None:
        raise StorageUnavailable("no space left")

    checkpointer: Any = SimpleNamespace(take=take)
    objects = Objects(str(tmp_path / "objects"))
    pages = CheckpointPages(objects, checkpointer, "test", Layout(1))
    with pytest.raises(ServiceUnavailable, match="no space left"):
        await pages.act({"action": "take"})
    (tmp_path / "objects" / "test").write_text("no folder")
    with pytest.raises(ServiceUnavailable, match="can't list test/shard-0000/manifests"):
        await pages.list({})
