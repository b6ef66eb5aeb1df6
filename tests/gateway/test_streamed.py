"""Pages that take a body, and pages that answer in chunks."""

import asyncio

import aiohttp
import pytest

from streamtable.core.errors import ValidationError

PATH = "/_streamtable/rows"


class Rows:
    """A streamed page that notes what becomes of it."""

    def __init__(self, chunks, error=None):
        self.chunks = chunks
        self.error = error
        self.given = 0
        self.query = None
        self.closed = asyncio.Event()

    async def __call__(self, query):
        self.query = query
        try:
            for chunk in self.chunks:
                if isinstance(chunk, asyncio.Event):
                    await chunk.wait()
                    continue
                self.given += 1
                yield chunk
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


def url(endpoint):
    return endpoint.server.endpoint + PATH


async def wait(event):
    await asyncio.wait_for(event.wait(), 20)


class TestPosts:
    async def test_the_body_goes_in_and_the_answer_out(self, serve):
        async def add(body):
            return {"sum": body["a"] + body["b"]}

        endpoint = await serve(posts={PATH: add})
        answer = await endpoint.ask(endpoint.request(path=PATH, body=b'{"a":1,"b":2}'))
        assert (answer.status, answer.json) == (200, {"sum": 3})
        assert answer.headers["content-type"] == "application/json"

    async def test_an_error_of_the_page_is_its_answer(self, serve):
        async def refuse(body):
            raise ValidationError("not so")

        endpoint = await serve(posts={PATH: refuse})
        answer = await endpoint.ask(endpoint.request(path=PATH, body=b"{}"))
        assert answer.status == 400
        assert answer.code == "ValidationException"
        assert answer.json["message"] == "not so"

    async def test_what_fails_by_mistake_is_a_500(self, serve):
        async def fail(body):
            raise KeyError("x")

        endpoint = await serve(posts={PATH: fail})
        answer = await endpoint.ask(endpoint.request(path=PATH, body=b"{}"))
        assert (answer.status, answer.code) == (500, "InternalServerError")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null"])
    async def test_a_body_that_is_no_object(self, serve, body):
        endpoint = await serve(posts={PATH: None})
        answer = await endpoint.ask(endpoint.request(path=PATH, body=body))
        assert (answer.status, answer.code) == (400, "SerializationException")

    async def test_a_body_that_is_too_long(self, serve):
        endpoint = await serve(posts={PATH: None}, body_bytes=10)
        answer = await endpoint.ask(endpoint.request(path=PATH, body=b'{"a":"0123456789"}'))
        assert answer.status == 413
        assert answer.closed

    async def test_a_get_of_it_is_not_found(self, serve):
        endpoint = await serve(posts={PATH: None})
        assert (await endpoint.ask(endpoint.request("GET", PATH))).status == 404


class TestStreams:
    async def test_the_chunks_come_as_they_are_made(self, serve):
        more = asyncio.Event()
        rows = Rows([b'{"offset":1}\n', more, b'{"rows":0}\n'])
        endpoint = await serve(streams={PATH: rows})
        async with (
            aiohttp.ClientSession() as session,
            session.get(url(endpoint), params={"table": "users", "shard": "2"}) as answer,
        ):
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/x-ndjson"
            assert await answer.content.readline() == b'{"offset":1}\n'
            more.set()
            assert await answer.content.readline() == b'{"rows":0}\n'
            assert await answer.content.readline() == b""
        assert rows.query == {"table": "users", "shard": "2"}
        assert rows.closed.is_set()

    async def test_a_connection_goes_on_after_it(self, serve):
        endpoint = await serve(streams={PATH: Rows([b"a\n"])})
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.get(url(endpoint)) as answer:
                    assert await answer.read() == b"a\n"
            assert len(endpoint.connections) == 1

    async def test_nothing_at_all(self, serve):
        endpoint = await serve(streams={PATH: Rows([])})
        async with aiohttp.ClientSession() as session, session.get(url(endpoint)) as answer:
            assert (answer.status, await answer.read()) == (200, b"")

    async def test_an_error_before_the_first_chunk_is_the_answer(self, serve):
        endpoint = await serve(streams={PATH: Rows([], ValidationError("no such shard"))})
        answer = await endpoint.ask(endpoint.request("GET", PATH))
        assert (answer.status, answer.json["message"]) == (400, "no such shard")

    async def test_an_error_later_cuts_the_answer_off(self, serve):
        endpoint = await serve(streams={PATH: Rows([b"a\n"], ValueError("gone"))})
        async with aiohttp.ClientSession() as session, session.get(url(endpoint)) as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()

    async def test_a_client_that_goes_closes_the_iterator(self, serve):
        rows = Rows([b"a\n", asyncio.Event()])
        endpoint = await serve(streams={PATH: rows})
        async with aiohttp.ClientSession() as session:
            answer = await session.get(url(endpoint))
            assert await answer.content.readline() == b"a\n"
            answer.close()
            await wait(rows.closed)

    async def test_a_client_that_reads_slowly_is_waited_for(self, serve):
        rows = Rows([b"x" * 65536] * 1000)
        endpoint = await serve(streams={PATH: rows})
        async with endpoint.wire() as wire:
            await wire.send(endpoint.request("GET", PATH))
            await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 20)
            before = -1
            while before != rows.given:  # until what lies between is full
                before = rows.given
                await asyncio.sleep(0.2)
            assert rows.given < 500
        await wait(rows.closed)

    async def test_a_stop_closes_the_iterator_and_cuts_the_answer_off(self, serve):
        rows = Rows([b"a\n", asyncio.Event()])
        endpoint = await serve(streams={PATH: rows}, stop_s=20)
        async with aiohttp.ClientSession() as session, session.get(url(endpoint)) as answer:
            assert await answer.content.readline() == b"a\n"
            async with asyncio.timeout(15):
                await endpoint.server.stop()
            assert rows.closed.is_set()
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
