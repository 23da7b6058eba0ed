"""A receiver of push notifications that answers as it is told: with a status, late, endlessly, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

ENDLESS, HANG, CUT, DRIP = "endless", "hang", "cut", "drip"


@dataclass
class Note:
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def said(self) -> str:
        """What it tells, in a word: a state and its text, or the artifact's id."""
        if "artifactUpdate" in self.event:
            return str(self.event["artifactUpdate"]["artifact"]["artifactId"])
        status = self.event["statusUpdate"]["status"]
        texts = [part.get("text", "") for part in status.get("message", {}).get("parts", [])]
        return f"{status['state'].removeprefix('TASK_STATE_').lower()}: {' '.join(filter(None, texts))}".strip()


@dataclass
class Receiver:
    url: str = ""
    notes: list[Note] = field(default_factory=list)
    """Everything that came, whatever was answered."""
    answers: list[int | str] = field(default_factory=list)
    """Used up first; then `always`."""
    always: int | str = 204
    location: str = ""
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def said(self) -> list[str]:
        return [note.said for note in self.notes]

    async def has(self, count: int, seconds: float = 20) -> list[str]:
        """Wait until so many came."""
        try:
            async with asyncio.timeout(seconds), self.news:
                await self.news.wait_for(lambda: len(self.notes) >= count)
        except TimeoutError:
            raise AssertionError(f"only {self.said} came") from None
        return self.said

    async def ended(self, seconds: float = 20) -> list[str]:
        """Wait for the task's end."""
        try:
            async with asyncio.timeout(seconds), self.news:
                await self.news.wait_for(
                    lambda: any(said.startswith(("completed", "failed", "canceled")) for said in self.said)
                )
        except TimeoutError:
            raise AssertionError(f"only {self.said} came") from None
        return self.said

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                _, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                async with self.news:
                    self.notes.append(Note(headers, body))
                    self.news.notify_all()
                if not await self.answer(writer):
                    break
        writer.close()

    async def answer(self, writer: asyncio.StreamWriter) -> bool:
        how = self.answers.pop(0) if self.answers else self.always
        match how:
            case int():
                more = f"location: {self.location}\r\n" if self.location else ""
                writer.write(f"HTTP/1.1 {how} Said\r\ncontent-length: 0\r\n{more}\r\n".encode())
                await writer.drain()
                return True
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    await writer.drain()
            case "drip":
                writer.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    writer.write(b"x-more: 1\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case "hang":
                await asyncio.sleep(3600)
        return False


@asynccontextmanager
async def receiver(**settings: Any) -> AsyncIterator[Receiver]:
    made = Receiver(**settings)
    taking: set[asyncio.Task[None]] = set()

    def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.take(reader, writer))
        taking.add(task)
        task.add_done_callback(taking.discard)

    server = await asyncio.start_server(taken, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in taking:
            task.cancel()
        await asyncio.gather(*taking, return_exceptions=True)
