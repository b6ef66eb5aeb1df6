import asyncio

import pytest

from streamtable.gateway.transports import JoiningTransport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Written(asyncio.Transport):
    """Remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.pieces = []

    def write(self, data):
        self.pieces.append(bytes(data))

    def close(self):
        self.pieces.append("closed")


@pytest.fixture
def written():
    return Written()


@pytest.fixture
def joining(written):
    return JoiningTransport(written)


def test_a_head_waits_for_its_body(joining, written):
    joining.write(HEAD)
    assert written.pieces == []
    joining.write(b"{}")
    joining.write(b"more")
    assert written.pieces == [HEAD + b"{}", b"more"]


def test_a_long_body_is_not_copied(joining, written):
    long = b"a" * 100_000
    joining.write(HEAD)
    joining.write(long)
    assert written.pieces == [HEAD, long]


def test_what_a_client_waits_for_before_it_sends_on_is_sent_at_once(joining, written):
    joining.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert written.pieces == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_a_head_alone_goes_before_the_end(joining, written):
    joining.write(HEAD)
    joining.flush()
    joining.write(HEAD)
    joining.close()
    assert written.pieces == [HEAD, HEAD, "closed"]
