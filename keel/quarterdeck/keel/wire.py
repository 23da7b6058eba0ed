"""One TCP connection for httpcore, on asyncio's own transport: a request leaves in one packet, and reading costs no
system call beside the read itself. httpcore's own stream sends head and body apart and arms the poller for every read.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

HELD = 64 * 1024
"""So much of a request is held back until the answer is read; more is sent on the way."""
AHEAD = 256 * 1024
"""So much of an answer is taken in before anybody reads it."""


class Wire(asyncio.Protocol, httpcore.AsyncNetworkStream):
    def __init__(self) -> None:
        self._transport: Any = None
        self._held = bytearray()
        self._write_s: float | None = None
        self._arrived = bytearray()
        self._paused = self._ended = False
        self._problem: Exception | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # What the transport tells

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        if len(self._arrived) > AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        self._ended = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._problem = True, exc
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What httpcore asks for

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._held += buffer
        self._write_s = timeout
        if len(self._held) > HELD:
            await self._flush()

    async def _flush(self) -> None:
        if self._ended:
            raise httpcore.WriteError("the connection was closed")
        self._transport.write(bytes(self._held))
        self._held.clear()
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(self._write_s):
                    await self._writable.wait()
            except TimeoutError:
                raise httpcore.WriteTimeout from None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._held:
            try:
                await self._flush()
            except httpcore.WriteError:  # it may have answered before it closed
                self._held.clear()
        if not self._arrived and not self._ended:
            self._news.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._news.wait()
            except TimeoutError:
                raise httpcore.ReadTimeout from None
        if not self._arrived:
            if self._problem is not None:
                raise httpcore.ReadError(str(self._problem))
            return b""
        data = bytes(self._arrived[:max_bytes])
        del self._arrived[:max_bytes]
        if self._paused and not self._arrived:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def aclose(self) -> None:
        self._ended = True
        self._transport.abort() if self._held else self._transport.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                self._transport = await loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        except OSError as error:  # ssl.SSLError is one
            raise httpcore.ConnectError(str(error)) from None
        return self

    def get_extra_info(self, info: str) -> Any:
        names = {"client_addr": "sockname", "server_addr": "peername"}
        if info == "is_readable":  # an idle connection on which something came is over
            return self._ended or bool(self._arrived) or _readable(self._transport.get_extra_info("socket"))
        return self._transport.get_extra_info(names.get(info, info))


def _readable(sock: Any) -> bool:
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


async def connect(
    address: str, port: int, timeout: float | None, local_address: str | None, options: Iterable[Any] | None
) -> Wire:
    try:
        async with asyncio.timeout(timeout):
            _, wire = await asyncio.get_running_loop().create_connection(
                Wire, address, port, local_addr=(local_address, 0) if local_address else None
            )
    except TimeoutError:
        raise httpcore.ConnectTimeout from None
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from None
    for option in options or ():
        wire.get_extra_info("socket").setsockopt(*option)
    return wire
