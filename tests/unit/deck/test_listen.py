"""The socket that `serve --http` and `agents` listen on."""

import asyncio
import socket

import pytest

from quarterdeck.deck.serve import bind


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_answers_leave_at_once(host: str) -> None:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = writer.get_extra_info("socket")
        accepted.set_result(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    try:
        listener = bind(host, 0)
    except Exception:
        if host == "::1":
            pytest.skip("no IPv6 here")
        raise
    server = await asyncio.start_server(take, sock=listener)
    async with server:
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        assert await asyncio.wait_for(accepted, 5), "small answers would wait for the other side's ACK"
        writer.close()
        await writer.wait_closed()
