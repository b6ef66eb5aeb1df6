import resource
import subprocess
import sys
from pathlib import Path

import pytest

NODE = """
import asyncio, resource, sys
from pathlib import Path
from streamtable.node import Node
from streamtable.settings import NodeSettings

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))


async def main():
    node = Node(NodeSettings(data=Path(sys.argv[1]), port=0, broker_port=0))
    await node.start()
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
    await node.stop()


asyncio.run(main())
"""


@pytest.mark.slow
def test_a_node_may_open_as_many_files_as_it_is_allowed_to(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = [sys.executable, "-c", NODE, str(tmp_path)]
    limits = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert limits.split() == [str(hard), str(hard)]
