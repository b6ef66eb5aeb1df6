from pathlib import Path

import pytest

from streamtable.data_folder import DataFolder, DataFolderInUse


def test_a_folder_is_one_process_s_and_the_node_keeps_its_name(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    with pytest.raises(DataFolderInUse, match="in use by another process"):
        DataFolder(tmp_path / "data")
    folder.release()
    again = DataFolder(tmp_path / "data")
    assert again.node == folder.node
    again.release()


def test_links_that_were_left_go_at_the_next_start(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    kept, link = folder.shard(3) / "000007.sst", folder.scratch / "shard-3" / "000007.sst"
    for path in (kept, link):
        path.parent.mkdir(parents=True)
    kept.touch()
    link.hardlink_to(kept)
    folder.release()
    again = DataFolder(tmp_path)
    assert not link.exists()
    assert kept.exists()
    again.release()
