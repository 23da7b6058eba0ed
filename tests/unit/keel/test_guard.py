"""Addresses that others chose do not lead inside, however they are written and whenever they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.guard import GuardedTransport, Resolve, addresses, check_url, guarded_client, place_of


@asynccontextmanager
async def listening(
    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
) -> AsyncIterator[tuple[int, list[str]]]:
    """A server on loopback: its port, and the Host header of every request it saw."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.extend(
                    line[5:].decode().strip() for line in head.split(b"\r\n") if line.lower().startswith(b"host:")
                )
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


def resolving(*answers: list[str]) -> Resolve:
    """A name server that says these one after the other, and the last one for ever."""
    left = list(answers)

    async def resolver(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolver


INSIDE = [
    "127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.3.4", "172.31.255.255", "192.168.1.1", "100.64.0.1", "192.0.0.8",
    "198.18.0.1", "192.0.2.7", "203.0.113.9", "240.0.0.1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1",
    "169.254.169.254", "169.254.1.1", "168.63.129.16", "100.100.100.200",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "::ffff:0:7f00:1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "not-an-address",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
async def test_no_name_leads_inside(address: str) -> None:
    with pytest.raises(Refusal, match=r"is not called"):
        await check_url("https://agent.example", resolver=resolving([address]))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
async def test_addresses_outside_are_called(address: str) -> None:
    await check_url("https://agent.example/path", resolver=resolving([address]))


async def test_one_address_inside_among_many_spoils_the_name() -> None:
    with pytest.raises(Refusal, match="inside"):
        await check_url("https://agent.example", resolver=resolving(["8.8.8.8", "10.0.0.1"]))


# What operating systems take for 127.0.0.1 or another address inside.
WRITTEN = [
    "http://127.0.0.1", "http://127.1", "http://2130706433", "http://0177.0.0.1", "http://0x7f.0.0.1", "http://0x7f000001",
    "http://017700000001", "http://127.0.0.1.", "http://localhost", "http://localhost.", "http://LOCALHOST",
    "http://[::1]", "http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]", "http://[0:0:0:0:0:ffff:127.0.0.1]",
    "http://[::]", "http://0", "http://0.0.0.0", "http://169.254.169.254/latest/meta-data/", "http://2852039166",
    "http://[fe80::1%25lo]", "http://①②⑦.⓪.⓪.①", "http://127。0。0。1",
]  # fmt: skip


@pytest.mark.parametrize("url", WRITTEN)
async def test_no_way_to_write_an_address_inside_gets_through(url: str) -> None:
    with pytest.raises(Refusal):
        await check_url(url)
    async with guarded_client(2.0) as http:
        with pytest.raises((Refusal, httpx.InvalidURL)):
            await http.get(url)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://8.8.8.8", "ftp://8.8.8.8", "//8.8.8.8", "8.8.8.8", "", "http://", "http:///x"],
)
async def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(Refusal):
        await check_url(url)


async def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(Refusal) as caught:
        await check_url("https://me:hunter2hunter2@agent.example")
    assert "hunter2" not in str(caught.value)


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """The name server says something good once, then 127.0.0.1: there is no second question."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async with listening() as (port, seen):
        async with guarded_client(2.0, allow=[f"http://agent.example:{port}"], resolver=rebinding) as http:
            response = await http.get(f"http://agent.example:{port}/")
        assert response.text == "ok"
        assert asked == ["agent.example"]
        assert seen == [f"agent.example:{port}"], "the name stays in the Host header"


async def test_a_name_that_is_bound_anew_is_refused_at_the_next_connection() -> None:
    async with listening() as (port, seen):
        url = f"http://agent.example:{port}/"
        resolver = resolving(["8.8.8.8"], ["127.0.0.1"])
        await check_url(url, resolver=resolver)
        async with guarded_client(2.0, resolver=resolver) as http:
            with pytest.raises(Refusal, match="inside"):
                await http.get(url)
        assert seen == []


async def test_what_the_administrator_named_may_be_inside_for_exactly_its_host_and_port() -> None:
    async with listening() as (port, seen), listening() as (other, unseen):
        async with guarded_client(2.0, allow=[f"http://127.0.0.1:{port}"]) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/")).text == "ok"
            for url in (f"http://127.0.0.1:{other}/", f"http://localhost:{port}/", f"http://127.0.0.2:{port}/"):
                with pytest.raises(Refusal, match="administrator"):
                    await http.get(url)
        assert len(seen) == 1
        assert unseen == []


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "168.63.129.16", "fd00:ec2::254", "0.0.0.0", "224.0.0.1", "fe80::1"]
)
async def test_even_a_named_host_never_leads_to_metadata_or_multicast(address: str) -> None:
    with pytest.raises(Refusal):
        await check_url("http://agent.corp", allow=["http://agent.corp"], resolver=resolving([address]))
    await check_url("http://agent.corp", allow=["http://agent.corp"], resolver=resolving(["10.1.2.3"]))


async def test_a_trailing_dot_or_capitals_do_not_make_another_host() -> None:
    allow = ["https://Agent.Corp:8443"]
    await check_url("https://agent.corp.:8443/x", allow=allow, resolver=resolving(["10.1.2.3"]))
    assert place_of("https://AGENT.corp.") == ("agent.corp", 443)


async def test_a_redirect_inside_is_not_followed_and_is_refused_when_somebody_follows_it() -> None:
    async with listening() as (inside, unseen):
        moved = f"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{inside}/\r\ncontent-length: 0\r\n\r\n".encode()
        async with listening(moved) as (port, _), guarded_client(2.0, allow=[f"http://127.0.0.1:{port}"]) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/")).status_code == 302
            with pytest.raises(Refusal):
                await http.get(f"http://127.0.0.1:{port}/", follow_redirects=True)
        assert unseen == []


async def test_no_proxy_from_the_environment_goes_around_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as (port, seen):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        async with guarded_client(2.0) as http:
            with pytest.raises(Refusal):
                await http.get("http://127.0.0.2:9/")
        assert seen == []


async def test_a_name_server_that_hangs_or_floods_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterdeck.keel.guard.RESOLVE_S", 0.05)

    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(Refusal, match="not found"):
        await check_url("https://agent.example", resolver=never)
    with pytest.raises(Refusal, match="more than"):
        await addresses("agent.example", 443, [], resolving([f"8.8.8.{n}" for n in range(40)]))
    with pytest.raises(Refusal, match="no address"):
        await addresses("agent.example", 443, [], resolving([]))


async def test_an_address_that_does_not_answer_is_followed_by_the_next() -> None:
    async with listening() as (port, _):
        resolver = resolving(["127.0.0.2", "127.0.0.1"])
        async with guarded_client(2.0, allow=[f"http://agent.corp:{port}"], resolver=resolver) as http:
            assert (await http.get(f"http://agent.corp:{port}/")).text == "ok"


async def test_the_transport_stands_alone_too() -> None:
    async with httpx.AsyncClient(transport=GuardedTransport()) as http:
        with pytest.raises(Refusal):
            await http.get("http://127.0.0.1:1/")
