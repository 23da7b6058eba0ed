"""The services over HTTP: they answer only while ready pods stand behind them; the balancer really asks them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from quarterdeck.titanium.system import BY_NAME, PARTS, Part
from quarterdeck.titanium.traffic import Traffic

Reply = tuple[int, Any]
Handler = Callable[[str, str], Awaitable[Reply]]
LONGEST = 16 * 1024


class Listener:
    """A small HTTP/1.1 server on one loopback port that can be closed and opened again. Port 0 takes a free one, and
    holds it while closed: between two runs of a service nobody else may get its port."""

    def __init__(self, port: int, handler: Handler) -> None:
        self._handler = handler
        self._held = _held() if port == 0 else None
        self.port: int = port if self._held is None else self._held.getsockname()[1]
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, limit=LONGEST, reuse_port=self._held is not None or None
            )

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def stop(self) -> None:
        await self.close()
        if self._held is not None:
            self._held.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = [*head.split("\r\n", 1)[0].split(" "), "", ""][:3]
            status, body = await self._handler(method, target)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else b""
            kind = "text/plain" if isinstance(body, str) else "application/json"
            words = {200: "OK", 400: "Bad Request", 404: "Not Found", 422: "Unprocessable Entity"}.get(status, "Error")
            writer.write(
                f"HTTP/1.1 {status} {words}\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n"
                "connection: close\r\n\r\n".encode()
                + data
            )
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


async def ask(port: int, path: str, seconds: float = 2.0) -> Any:
    """GET a JSON document from a service, as the balancer does."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
            raw = await reader.read(1 << 20)
        finally:
            writer.close()
    return json.loads(raw.partition(b"\r\n\r\n")[2])


def _held() -> socket.socket:
    """A free port of our own: bound, never listening, so that connections are refused until a server joins it."""
    held = socket.socket(proto=socket.IPPROTO_TCP)  # or asyncio sets no TCP_NODELAY
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Services:
    """All listeners of the system. `ready` says how many ready pods stand behind a service."""

    def __init__(self, traffic: Traffic, ready: Callable[[str], int], *, free: bool) -> None:
        self._traffic, self._ready = traffic, ready
        self._listeners = {
            part.name: Listener(0 if free else part.port, self._handler(part.name)) for part in PARTS if part.http
        }
        self.ports = {name: listener.port for name, listener in self._listeners.items()}

    async def tick(self) -> None:
        """Open and close what the cluster says."""
        for name, listener in self._listeners.items():
            if bool(self._ready(name)) != listener.is_open:
                await (listener.close() if listener.is_open else listener.open())

    async def stop(self) -> None:
        for listener in self._listeners.values():
            await listener.stop()

    def _handler(self, name: str) -> Handler:
        async def handle(method: str, target: str) -> Reply:
            path = target.partition("?")[0]
            if path in ("/health", "/lb-health"):
                return 200, "" if name == "load-balancer" else {"status": "ok"}
            if path == "/stats":
                return 200, await self._all() if name == "load-balancer" else self._own(BY_NAME[name])
            return 404, {"detail": "Not Found"}

        return handle

    async def _all(self) -> dict[str, Any]:
        """The balancer's /stats: every service is asked in parallel; a dead one is said to be offline."""
        asked = [part for part in PARTS if part.key and part.name != "load-balancer"]
        answers = await asyncio.gather(
            *(ask(self.ports[part.name], "/stats") for part in asked), return_exceptions=True
        )
        found: dict[str, Any] = {"load-balancer": self._traffic.own_stats()}
        for part, answer in zip(asked, answers, strict=True):
            found[part.key] = {"service_status": "offline"} if isinstance(answer, BaseException) else answer
        for copied in ("database", "cache"):
            if copied in found["user_service"]:
                found[copied] = found["user_service"][copied]
        return found

    def _own(self, part: Part) -> dict[str, Any]:
        rate = self._traffic.own_stats()["requests_per_second"]
        said: dict[str, Any] = {"service_status": "online"}
        match part.name:
            case "api-gateway":
                said |= {"goroutines": 38, "requests_per_second": rate, "instances": self._ready(part.name)}
            case "auth-service":
                said |= {"active_tokens": 412, "tokens_issued_total": 90211}
            case "user-service":
                said |= {
                    "database": {"type": "sqlite", "users": 1843, "size_mb": 12.4, "status": "ok"},
                    "cache": {"status": "ok" if self._ready("redis") else "offline", "hit_rate_percent": 93.1},
                }
            case "blog-service":
                said |= {"posts": 5120, "comments": 18044, "db_write_latency_ms": 3.1}
        return said
