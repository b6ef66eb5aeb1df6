import asyncio
import socket
import sys

import pytest

from streamtable.core.errors import StreamtableError
from streamtable.gateway import HttpServer, ListenError, PortTaken, create_app, reserve
from streamtable.gateway.app import Gateway
from streamtable.gateway.ports import listen
from streamtable.gateway.server import _Connection
from tests.support.waiting import until

GET = {"TableName": "users", "Key": {"id": {"S": "a"}}}


async def get_item(body, context):
    return {"Item": body["Key"]}


def server_on(port, host="127.0.0.1"):
    return HttpServer(create_app({}), host=host, port=port)


async def test_a_free_port_is_chosen_for_port_0(serve):
    endpoint = await serve()
    assert endpoint.server.port > 0
    assert endpoint.server.endpoint == f"http://127.0.0.1:{endpoint.server.port}"


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"), ("me", "http://me:80")],
)
def test_the_endpoint_is_an_address_for_a_client(host, endpoint):
    assert server_on(80, host).endpoint == endpoint


async def test_a_taken_port_says_what_to_do(serve):
    endpoint = await serve()
    port = endpoint.server.port
    with pytest.raises(PortTaken, match=rf"port {port} of 127\.0\.0\.1 is taken.*choose another"):
        await server_on(port).start()
    assert issubclass(PortTaken, (StreamtableError, OSError))
    assert (await endpoint.ask(endpoint.request("GET"))).status == 200


async def test_a_port_that_is_reserved_refuses_connections_until_it_is_served(serve):
    endpoint = await serve()
    with pytest.raises(PortTaken, match="is taken by another process"):
        await reserve("127.0.0.1", endpoint.server.port)
    reserved = await reserve("127.0.0.1", 0)
    port = reserved.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    server = HttpServer(create_app({}), port=0, reserved=reserved)
    await server.start()
    assert server.port == port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await server.stop()


async def test_of_two_that_reserved_a_port_the_first_to_listen_has_it():
    first = await reserve("127.0.0.1", 0)
    port = first.getsockname()[1]
    second = await reserve("127.0.0.1", port)
    listen(first)
    with pytest.raises(PortTaken, match=f"port {port} of"):
        listen(second)
    first.close()


async def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        await server_on(0, "192.0.2.1").start()
    with pytest.raises(ListenError, match="no address"):
        await server_on(0, "nowhere.invalid").start()


async def test_a_port_can_be_used_again_after_a_stop(serve):
    endpoint = await serve()
    await endpoint.ask(endpoint.request("GET"))
    await endpoint.server.stop()
    await endpoint.server.stop()
    again = server_on(endpoint.server.port)
    await again.start()
    await again.stop()


async def test_requests_in_flight_are_finished_before_a_stop(serve):
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(body, context):
        entered.set()
        await leave.wait()
        return {"Item": {}}

    endpoint = await serve({"GetItem": handler})
    async with endpoint.wire() as busy, endpoint.wire() as idle, endpoint.wire() as unheard:
        await idle.send(endpoint.request("GET"))
        await idle.read()
        await unheard.send(endpoint.operation("GetItem", b"{", content_length=50))
        await busy.send(endpoint.operation("GetItem", GET))
        await entered.wait()
        stopping = asyncio.create_task(endpoint.server.stop())
        assert await idle.at_end()
        assert await unheard.at_end()
        assert not stopping.done()
        leave.set()
        answer = await busy.read()
        assert answer.status == 200
        assert answer.closed
        await stopping
    with pytest.raises(ConnectionRefusedError):
        await endpoint.ask(endpoint.request("GET"))


async def test_a_request_between_the_stop_and_the_close_is_answered(serve):
    endpoint = await serve({"GetItem": get_item}, quiet_s=60)
    async with endpoint.wire() as wire:
        await wire.send(endpoint.operation("GetItem", GET))
        assert not (await wire.read()).closed
        stopping = asyncio.create_task(endpoint.server.stop())
        await refused(endpoint)
        await wire.send(endpoint.operation("GetItem", GET))
        answer = await wire.read()
        assert answer.status == 200
        assert answer.closed
        assert await wire.at_end()
        async with asyncio.timeout(20):
            await stopping


async def test_a_request_that_nobody_has_read_yet_is_answered(serve, monkeypatch):
    endpoint = await serve({"GetItem": get_item}, quiet_s=0)
    look = _Connection.close_if_quiet
    asked: list[None] = []

    def ask_and_look(connection):
        if not asked:
            asked.append(wire.writer.write(endpoint.operation("GetItem", GET)))
        look(connection)

    monkeypatch.setattr(_Connection, "close_if_quiet", ask_and_look)
    async with endpoint.wire() as wire:
        await wire.send(endpoint.operation("GetItem", GET))
        await wire.read()
        await endpoint.server.stop()
        answer = await wire.read()
        assert answer.status == 200
        assert answer.closed


async def test_who_was_let_in_as_the_listener_closes_is_answered(serve, monkeypatch):
    endpoint = await serve({"GetItem": get_item}, quiet_s=60)
    with socket.socket() as client:

        def connect(_gateway):
            client.connect((endpoint.server.host, endpoint.server.port))
            client.sendall(endpoint.operation("GetItem", GET))

        monkeypatch.setattr(Gateway, "close_streams", connect)
        await endpoint.server.stop()
        client.settimeout(20)
        assert client.recv(15) == b"HTTP/1.1 200 OK"


async def test_who_leaves_takes_one_more_request_of_each_connection(serve):
    endpoint = await serve({"GetItem": get_item})
    async with endpoint.wire() as wire:
        await wire.send(endpoint.operation("GetItem", GET))
        assert not (await wire.read()).closed
        endpoint.server.leave()
        await wire.send(endpoint.operation("GetItem", GET))
        assert (await wire.read()).closed
        assert await wire.at_end()
    assert (await endpoint.ask(endpoint.operation("GetItem", GET))).status == 200


async def refused(endpoint):
    """Wait until no more connections are taken."""

    async def is_refused():
        try:
            async with endpoint.wire():
                return False
        except ConnectionRefusedError:
            return True

    await until(is_refused, "the listener to be closed")


async def test_a_request_that_does_not_end_is_cut_off_at_a_stop(serve, caplog):
    entered = asyncio.Event()

    async def handler(body, context):
        entered.set()
        await asyncio.Event().wait()

    endpoint = await serve({"GetItem": handler}, stop_s=1)
    async with endpoint.wire() as wire:
        await wire.send(endpoint.operation("GetItem", GET))
        await entered.wait()
        await endpoint.server.stop()
        assert (await wire.read()).code == "InternalServerError"
        assert await wire.at_end()
    assert "was cut off by a stop" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "cut",
    [
        0,  # nothing at all
        30,  # within the head
        -3,  # within the body
    ],
)
async def test_a_client_that_does_not_send_on_is_cut_off(serve, cut):
    endpoint = await serve({"GetItem": get_item}, request_timeout_s=0.5)
    request = endpoint.operation("GetItem", GET)
    async with endpoint.wire() as fresh, endpoint.wire() as used:
        await fresh.send(request[:cut])
        await used.send(request)
        assert (await used.read()).status == 200
        await used.send(request[:cut] or b"P")
        assert await fresh.at_end()
        assert await used.at_end()


async def test_an_idle_connection_outlives_the_time_for_a_request(serve):
    endpoint = await serve({"GetItem": get_item}, request_timeout_s=0.5, keep_alive_s=60)
    async with endpoint.wire() as idle, endpoint.wire() as slow:
        await idle.send(endpoint.operation("GetItem", GET))
        await idle.read()
        await slow.send(b"POST")
        assert await slow.at_end()
        await idle.send(endpoint.operation("GetItem", GET))
        assert (await idle.read()).status == 200


async def test_a_handler_may_take_longer_than_a_client(serve):
    async def handler(body, context):
        async with endpoint.wire() as slow:
            await slow.send(b"POST")
            assert await slow.at_end()
        return {"Item": {}}

    endpoint = await serve({"GetItem": handler}, request_timeout_s=0.5)
    assert (await endpoint.ask(endpoint.operation("GetItem", GET))).status == 200


@pytest.mark.parametrize("limits", [{"request_timeout_s": 0.2}, {"unread_bytes": 1_000_000}])
async def test_a_client_that_does_not_read_is_cut_off(serve, limits):
    called = asyncio.Event()

    async def handler(body, context):
        called.set()
        return b'{"x":"' + b"x" * 12_000_000 + b'"}'

    endpoint = await serve({"GetItem": handler}, **limits)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (endpoint.server.host, endpoint.server.port))
        await loop.sock_sendall(client, endpoint.operation("GetItem", GET))
        await called.wait()
        await endpoint.is_left()


async def test_connections_are_bounded(serve):
    endpoint = await serve({"GetItem": get_item}, connections=1)
    async with endpoint.wire() as first:
        await first.send(endpoint.operation("GetItem", GET))
        await first.read()
        async with endpoint.wire() as second:
            assert (await second.read()).status == 503
            assert await second.at_end()
        await first.send(endpoint.operation("GetItem", GET))
        assert (await first.read()).status == 200


async def test_a_head_is_bounded(serve):
    endpoint = await serve({"GetItem": get_item}, header_bytes=10_000)
    async with endpoint.wire() as wire:
        await wire.send(endpoint.operation("GetItem", GET))
        assert (await wire.read()).status == 200
        await wire.send(b"GET / HTTP/1.1\r\nx: " + b"x" * 5_000)
        await wire.send(b"x" * 10_000)
        assert (await wire.read()).status == 431
        assert await wire.at_end()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_junk_is_answered_400_or_not_at_all(serve, junk):
    endpoint = await serve({"GetItem": get_item}, request_timeout_s=0.5)
    async with endpoint.wire() as wire:
        await wire.send(junk)
        answer = await asyncio.wait_for(wire.reader.read(), 20)
    assert answer == b"" or answer.split()[1] in (b"400", b"404")
    assert (await endpoint.ask(endpoint.operation("GetItem", GET))).status == 200


async def test_an_upgrade_is_not_taken(serve):
    endpoint = await serve()
    answer = await endpoint.ask(endpoint.request("GET", connection="Upgrade", upgrade="h2c"))
    assert answer.raw.startswith(b"healthy: ")


async def test_another_protocol_that_is_offered_is_declined(serve):
    endpoint = await serve({"GetItem": get_item})
    for headers in (
        {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMA"},
        {"Connection": "Upgrade", "Upgrade": "websocket"},
    ):
        async with endpoint.wire() as wire:
            for _ in range(2):
                await wire.send(endpoint.operation("GetItem", GET, **headers))
                answer = await wire.read()
                assert (answer.status, answer.json) == (200, {"Item": {"id": {"S": "a"}}})
                assert not answer.closed


_READER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as client:
    for _ in range(100):  # a second packet is missed at times
        client.sendall(bytes.fromhex(sys.argv[3]))
        print(client.recv(65536).partition(b"\\r\\n\\r\\n")[2].decode())
"""


async def test_an_answer_comes_in_one_piece(serve):
    endpoint = await serve({"GetItem": get_item})
    request = endpoint.operation("GetItem", GET).hex()
    address = (endpoint.server.host, str(endpoint.server.port))
    reader = await asyncio.create_subprocess_exec(  # its own process: it reads while we write
        sys.executable, "-c", _READER, *address, request, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(reader.communicate(), 60)
    assert printed.decode().split() == ['{"Item":{"id":{"S":"a"}}}'] * 100


async def test_an_answer_without_a_body_is_sent(serve):
    endpoint = await serve()
    async with endpoint.wire() as wire:
        for _ in range(2):
            await wire.send(endpoint.request("HEAD"))
            head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 20)
            assert head.startswith(b"HTTP/1.1 200 OK")
