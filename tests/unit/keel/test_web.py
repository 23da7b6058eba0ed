"""Calls to other HTTP APIs: bounded in time and size, retried only when safe, errors as sentences."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx
import pytest
import respx

from quarterdeck.keel import web
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.web import client, get, json_of

URL = "http://prometheus.test/api"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_WAIT", 0.01)


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[str]:
    """A real server that answers each connection with `talk`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    finally:
        server.close()


def saying(raw: bytes) -> Talk:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return talk


async def refusal(url: str, **more: float) -> str:
    async with client(5) as http:
        with pytest.raises(Refusal) as caught:
            await get(http, url, "Prometheus", **more)  # type: ignore[arg-type]
    return str(caught.value)


@respx.mock
@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_passing_failure_is_tried_again(status: int) -> None:
    route = respx.get(URL).mock(side_effect=[httpx.Response(status), httpx.Response(200, json={"a": 1})])
    async with client(5) as http:
        assert json_of(await get(http, URL, "Prometheus"), "Prometheus") == {"a": 1}
    assert route.call_count == 2


@respx.mock
@pytest.mark.parametrize("status", [200, 204, 301, 401, 403, 404, 422])
async def test_an_answer_is_handed_over_as_it_is(status: int) -> None:
    route = respx.get(URL).mock(return_value=httpx.Response(status))
    async with client(5) as http:
        assert (await get(http, URL, "Prometheus")).status_code == status
    assert route.call_count == 1


@respx.mock
async def test_a_broken_server_is_not_asked_again() -> None:
    route = respx.get(URL).mock(return_value=httpx.Response(500))
    assert "answered 500" in await refusal(URL)
    assert route.call_count == 1


@respx.mock
async def test_three_tries_are_all() -> None:
    route = respx.get(URL).mock(return_value=httpx.Response(503))
    assert "answered 503" in await refusal(URL)
    assert route.call_count == 3


HALF = gzip.compress(b"x" * 999, mtime=0)[:20]
LATER = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
PAST = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)


@respx.mock
@pytest.mark.parametrize("value", ["60", pytest.param(LATER, id="later"), "9" * 400])
async def test_who_asks_for_a_long_wait_is_not_tried_again(value: str) -> None:
    route = respx.get(URL).mock(return_value=httpx.Response(429, headers={"retry-after": value}))
    assert "asks to wait" in await refusal(URL)
    assert route.call_count == 1


@respx.mock
@pytest.mark.parametrize(
    "value", ["0", pytest.param(PAST, id="past"), "", "soon", "-5", "²", "Wed, 21 Oct 2015 07:28:00 -0000", "1e9"]
)
async def test_a_short_or_senseless_wait_is_no_obstacle(value: str) -> None:
    again = httpx.Response(503, headers=[(b"retry-after", value.encode("latin-1"))])
    respx.get(URL).mock(side_effect=[again, httpx.Response(200)])
    async with client(5) as http:
        assert (await get(http, URL, "Prometheus")).status_code == 200


@respx.mock
async def test_the_wait_that_is_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    # Only the module's own view of asyncio: other loops of the suite sleep too.
    monkeypatch.setattr(web, "asyncio", SimpleNamespace(sleep=note, timeout=asyncio.timeout))
    respx.get(URL).mock(side_effect=[httpx.Response(429, headers={"retry-after": "3"}), httpx.Response(200)])
    async with client(5) as http:
        await get(http, URL, "Prometheus")
    assert waits[0] == 3


async def test_nobody_listening_is_said() -> None:
    async with listening(saying(b"")) as url:
        pass
    said = await refusal(url)
    assert "refused the connection" in said
    assert "Prometheus" in said


async def test_an_endless_trickle_ends_with_the_time_that_was_given() -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with listening(trickle) as url:
        assert "did not answer within" in await refusal(url, total_s=0.6)


async def test_a_silent_server_ends_with_the_time_that_was_given() -> None:
    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silence) as url:
        assert "did not answer within" in await refusal(url, total_s=0.6)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nx",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 7\r\n\r\ngarbage",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n"
        + gzip.compress(b"x" * 999, mtime=0)[:20],
    ],
)
async def test_half_an_answer_or_garbage_is_said_in_a_sentence(raw: bytes) -> None:
    async with listening(saying(raw)) as url:
        said = await refusal(url)
    assert "broke off" in said
    assert len(said) < 300


def packed(body: bytes, encoding: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_packed_answers_are_unpacked(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    async with listening(saying(packed(pack(b'{"a": 1}' * 1), encoding))) as url, client(5) as http:
        assert json_of(await get(http, url, "Prometheus"), "Prometheus") == {"a": 1}


async def test_too_much_is_refused_while_it_arrives() -> None:
    async with listening(saying(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)) as url:
        assert "larger than 100000 bytes" in await refusal(url, largest=100_000)


async def test_a_packed_bomb_does_not_unfold() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 60_000
    async with listening(saying(packed(bomb, "gzip"))) as url:
        tracemalloc.start()
        try:
            assert "larger than 1 MB" in await refusal(url, largest=1 << 20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000


async def test_a_bomb_packed_twice_is_refused() -> None:
    twice = gzip.compress(gzip.compress(b"\0" * 1_000_000))
    async with listening(saying(packed(twice, "gzip, gzip"))) as url:
        assert "not asked for" in await refusal(url)


async def test_a_redirect_takes_no_token_to_another_host() -> None:
    seen: list[bytes] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(b"reached")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with listening(other) as elsewhere:
        moved = f"HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n".encode()
        async with listening(saying(moved)) as url, client(5, {"authorization": "Bearer t"}) as http:
            assert (await get(http, url, "Prometheus")).status_code == 302
    assert seen == []


@pytest.mark.parametrize("url", ["http://[::1", "http://x:99999999/", "ftp://x/", "no address", "http://\x00/"])
async def test_an_address_that_is_none_is_said(url: str) -> None:
    said = await refusal(url)
    assert "Prometheus" in said
    assert len(said) < 300


@respx.mock
async def test_an_error_names_the_address_without_its_password_or_query() -> None:
    respx.get(host="prometheus.test").mock(return_value=httpx.Response(500))
    said = await refusal("http://bob:planted4711@prometheus.test/api?token=planted4711")
    assert "prometheus.test" in said
    assert "planted4711" not in said


@pytest.mark.parametrize("body", [b"<html>token=planted4711", b"", b"{", b'{"a": NaN', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_said_with_its_beginning(body: bytes) -> None:
    with pytest.raises(Refusal, match="not JSON") as caught:
        json_of(httpx.Response(200, content=body), "Prometheus")
    assert "planted4711" not in str(caught.value)
    assert len(str(caught.value)) < 300
