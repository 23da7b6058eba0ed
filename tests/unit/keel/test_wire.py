"""The connection under the guard: requests and answers of any size, TLS that verifies the name, ends and time-outs."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from quarterdeck.keel import guard

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its own body."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0]) if "content-length:" in head else 0
        body = await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


def client(port: int, *, scheme: str = "http", host: str = "127.0.0.1", timeout: float = 10) -> httpx.AsyncClient:
    origin = f"{scheme}://{host}:{port}"
    return httpx.AsyncClient(transport=guard.GuardedTransport(allow=[origin]), base_url=origin, timeout=timeout)


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_what_is_sent_arrives_and_comes_back_whole_also_a_second_time(size: int) -> None:
    async with listening(echo) as port, client(port) as http:
        for _ in range(2):
            assert (await http.post("/", content=b"x" * size)).content == b"x" * size


async def test_an_answer_that_nobody_reads_is_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0
    stuck = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            sent += 65_536
            try:
                async with asyncio.timeout(1):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                return

    async with listening(flood) as port, client(port) as http, http.stream("GET", "/"):
        async with asyncio.timeout(20):
            await stuck.wait()
    assert sent < 50_000_000


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with listening(once) as port, client(port) as http:
        for _ in range(3):
            assert (await http.get("/")).text == "ok"


async def test_silence_is_a_time_out_and_an_early_end_an_error() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf")

    async with listening(silent) as port, client(port, timeout=0.3) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/")
    async with listening(half) as port, client(port) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/")
    async with client(port) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get("/")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Signed by itself, for the name localhost."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "both.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


async def test_tls_carries_everything_and_verifies_who_it_talks_to(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(certificate)
    async with listening(echo, here) as port:
        async with client(port, scheme="https", host="localhost") as http:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await http.get("/")
        monkeypatch.setattr(guard, "_tls", lambda: ssl.create_default_context(cafile=certificate))
        async with client(port, scheme="https", host="localhost") as http:
            for size in (5, 2_000_000):
                assert len((await http.post("/", content=b"x" * size)).content) == size
        async with client(port, scheme="https") as http:
            with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1"):
                await http.get("/")
