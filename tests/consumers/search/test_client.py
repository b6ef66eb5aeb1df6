"""What the client's errors say to people."""

from streamtable.consumers.search.client import CLIENT_ERRORS, error_text, open_elasticsearch
from tests.support.ports import free_ports


async def test_an_outage_says_which_host_does_not_answer() -> None:
    [port] = free_ports(1)
    async with open_elasticsearch(f"http://127.0.0.1:{port}") as client:
        said = ""
        try:
            await client.cluster.health()
        except CLIENT_ERRORS as error:
            said = error_text(error)
    assert said.startswith(f"ConnectionError: Cannot connect to host 127.0.0.1:{port}")
