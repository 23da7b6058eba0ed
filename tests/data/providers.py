"""Tavily, Exa, Brave and SearXNG on loopback, as their APIs answer, with faults as a script or by chance.

    async with Providers() as providers:
        providers.script["exa"] = ["429 after 1", "500"]        # the next answers of exa; then it is well again
        settings = Settings(home=home, research=ResearchSettings(**providers.research("exa", "brave")))

    python tests/data/providers.py --port 0 --latency 0.8 --faults 0.05     # apart, for benchmarks; prints its address

One process on asyncio's own streams: it must cost little beside what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEYS = {"tavily": "tvly-planted-key-4711", "exa": "exa-planted-key-4712", "brave": "BSA-planted-key-4713"}
PATHS = {
    "/tavily/search": "tavily",
    "/exa/search": "exa",
    "/brave/res/v1/web/search": "brave",
    "/searxng/search": "searxng",
}
JSON = {"content-type": "application/json"}
CHANCE = ("429", "500", "hang")


@dataclass
class Asked:
    provider: str
    method: str
    headers: dict[str, str]
    query: str
    body: Any


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Providers:
    def __init__(self, latency_s: float = 0.0, faults: float = 0.0, seed: int = 7, results: int = 3) -> None:
        self.latency_s, self.faults, self.results = latency_s, faults, results
        self.script: dict[str, list[str]] = defaultdict(list)
        self.always: dict[str, str] = {}
        """Provider → the fault that all its answers have."""
        self.pages: dict[str, Answer] = {}
        """Path → what is served there beside the APIs: pages to fetch."""
        self.asked: list[Asked] = []
        self.fetched: Counter[str] = Counter()
        self.most_at_once = 0
        self.port = 0
        self._chance = random.Random(seed)
        self._at_once = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def research(self, *names: str, **more: Any) -> dict[str, Any]:
        """Settings of [research] that lead here, for the providers named; all four by default."""
        names = names or ("tavily", "exa", "brave", "searxng")
        found: dict[str, Any] = {f"{name}_url": f"{self.url}/{name}" for name in names}
        found |= {f"{name}_key": KEYS[name] for name in names if name in KEYS}
        limits = dict.fromkeys(("tavily", "exa", "brave", "searxng"), "100000/s")
        return {"provider": names[0], "order": list(names), "limits": limits, "allow": [self.url], **found, **more}

    def count(self, provider: str) -> int:
        return sum(one.provider == provider for one in self.asked)

    async def start(self, port: int = 0) -> Providers:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def __aenter__(self) -> Providers:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        split = urlsplit(target)
        provider = PATHS.get(split.path)
        if provider is None:
            self.fetched[split.path] += 1
            return await self._send(writer, self.pages.get(split.path, Answer(404)))
        told = json.loads(body) if body else {name: values[0] for name, values in parse_qs(split.query).items()}
        query = str(told.get("query") or told.get("q") or "")
        self.asked.append(Asked(provider, method, headers, query, told))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            return await self._answer(writer, provider, headers, query, told)
        finally:
            self._at_once -= 1

    async def _answer(
        self, writer: asyncio.StreamWriter, provider: str, headers: dict[str, str], query: str, told: Any
    ) -> bool:
        if not _let_in(provider, headers, told):
            return await self._send(writer, _error(provider, 401, "invalid key"))
        fault = self.always.get(provider, "")
        if self.script[provider]:
            fault = self.script[provider].pop(0)
        elif self._chance.random() < self.faults:
            fault = self._chance.choice(CHANCE)
        good = json.dumps(self.results_of(provider, query, int(told.get("max_results") or told.get("numResults") or 5)))
        kind, _, rest = fault.partition(" ")
        match kind:
            case "":
                return await self._send(writer, Answer(200, {**JSON, **_left(provider)}, good.encode()))
            case "hang":
                await asyncio.sleep(3600)
            case "reset":
                return False
            case "truncated":
                return await self._send(writer, Answer(200, JSON, good.encode()[: len(good) // 2]))
            case "huge":
                return await self._send(writer, Answer(200, JSON, b'{"results": [' + b" " * (10 << 20) + b"]}"))
            case "bomb":
                packed = zlib.compressobj(9, zlib.DEFLATED, 31)
                body = packed.compress(b" " * (64 << 20)) + packed.flush()
                return await self._send(writer, Answer(200, {**JSON, "content-encoding": "gzip"}, body))
            case "drip":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            case "empty":
                return await self._send(writer, Answer(202, {"content-type": "text/html"}, b""))
            case "html":
                return await self._send(writer, Answer(200, {"content-type": "text/html"}, b"<html>captcha</html>"))
            case "redirect":
                return await self._send(writer, Answer(302, {"location": rest}))
            case "partial":
                answer = json.loads(good)
                answer["statuses"] = [
                    {
                        "id": "https://x.example/",
                        "status": "error",
                        "error": {"tag": "CRAWL_NOT_FOUND", "httpStatusCode": 404},
                    }
                ]
                return await self._send(writer, Answer(200, JSON, json.dumps(answer).encode()))
            case "silent":
                answer = {"query": query, "results": [], "unresponsive_engines": [["bing", "timeout"]]}
                return await self._send(writer, Answer(200, JSON, json.dumps(answer).encode()))
            case "echo":  # an error that repeats what was sent
                return await self._send(writer, _error(provider, 400, f"bad request {headers}"))
        after = re.search(r"after ([\d.]+)", rest)
        answered = _error(provider, int(kind), rest or "scripted")
        if after:
            answered.headers["retry-after"] = after[1]
        if kind == "429" and provider == "brave":
            answered.headers |= {"x-ratelimit-remaining": "0, 14000", "x-ratelimit-reset": "1, 1419704"}
        return await self._send(writer, answered)

    def results_of(self, provider: str, query: str, most: int) -> dict[str, Any]:
        """Results about the company that the query begins with."""
        slug = re.sub(r"[^a-z0-9]+", "-", query.lower()).strip("-")[:40] or "x"
        company = slug.split("-")[0]
        rows = []
        for number in range(min(most, self.results)):
            url = f"https://{company}.example/" if number == 0 else f"https://{provider}{number}.example/{slug}"
            rows.append(
                (url, f"{query[:60]} {number}", f"What {provider} knows about {query[:100]}, part {number}. " * 6)
            )
        match provider:
            case "tavily":
                return {
                    "query": query,
                    "results": [
                        {"url": url, "title": title, "content": text[:80], "score": 0.9, "raw_content": text}
                        for url, title, text in rows
                    ],
                    "response_time": 0.8,
                }
            case "exa":
                return {
                    "requestId": "r",
                    "results": [
                        {"url": url, "title": title, "text": text, "publishedDate": "2026-03-04T00:00:00.000Z"}
                        for url, title, text in rows
                    ],
                    "costDollars": {"total": 0.007},
                }
            case "brave":
                found = [
                    {"url": url, "title": title, "description": f"<strong>{text[:120]}</strong> &amp; more"}
                    for url, title, text in rows
                ]
                return {"type": "search", "query": {"original": query}, "web": {"results": found}}
        return {
            "query": query,
            "results": [{"url": url, "title": t, "content": x, "engine": "a"} for url, t, x in rows],
        }

    async def _send(self, writer: asyncio.StreamWriter, answer: Answer) -> bool:
        lines = [f"HTTP/1.1 {answer.status} X", f"content-length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body)
        await writer.drain()
        return True


def _let_in(provider: str, headers: dict[str, str], told: Any) -> bool:
    match provider:
        case "tavily":
            return headers.get("authorization") == f"Bearer {KEYS['tavily']}"
        case "exa":
            return headers.get("x-api-key") == KEYS["exa"]
        case "brave":
            return headers.get("x-subscription-token") == KEYS["brave"]
    return bool(told.get("format") == "json")


def _left(provider: str) -> dict[str, str]:
    if provider != "brave":
        return {}
    return {
        "x-ratelimit-limit": "50, 15000",
        "x-ratelimit-policy": "50;w=1, 15000;w=2592000",
        "x-ratelimit-remaining": "49, 1000",
        "x-ratelimit-reset": "1, 1419704",
    }


def _error(provider: str, status: int, said: str) -> Answer:
    bodies: dict[str, Any] = {
        "tavily": {"detail": {"error": said}},
        "exa": {"requestId": "r", "error": said, "tag": "SOME_NEW_TAG"},
        "brave": {"type": "ErrorResponse", "error": {"code": "X", "detail": said, "status": status}},
        "searxng": {"error": said},
    }
    return Answer(status, dict(JSON), json.dumps(bodies[provider]).encode())


async def _serve(arguments: argparse.Namespace) -> None:
    providers = Providers(arguments.latency, arguments.faults, arguments.seed)
    await providers.start(arguments.port)
    print(providers.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=Path(__file__).stem)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.8)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=7)
    try:
        asyncio.run(_serve(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
