"""A small internet on loopback: a search provider and a model that take their time, and fail as often as they are told.

    python simulated_web.py --fault 0.05 --broken 0.003 --second 0.4

`POST /search` speaks Tavily's API, `POST /v1/messages` the Messages API (extraction and reflection). Companies, their
facts and their failures follow from their names alone, so that a run that was disturbed can be compared with one that
was not. `GET /figures` tells what was asked, how long it was worked on, and how much at once; `truth(name)` what is so.
Latencies are declared here and not measured anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Company",
    "properties": {
        "founded": {"type": "integer", "title": "Founded", "description": "year the company was founded"},
        "headquarters": {"type": "string", "title": "Headquarters", "description": "city of the headquarters"},
        "ceo": {"type": "string", "title": "CEO", "description": "chief executive officer"},
        "employees": {"type": "integer", "title": "Employees", "description": "number of employees"},
        "website": {"type": "string", "title": "Website", "format": "uri"},
    },
    "required": ["founded", "headquarters", "ceo", "employees"],
}
CITIES = ("Busan", "Seoul", "Rotterdam", "Lyon", "Osaka", "Tampere", "Porto", "Denver", "Leeds", "Graz")
FIRST = ("Mina", "Jonas", "Aiko", "Clara", "Tomas", "Ines", "Oskar", "Yuna", "Peter", "Hana")
LAST = ("Kowalski", "Park", "Okafor", "Lindqvist", "Moreau", "Tanaka", "Ferreira", "Haas", "Novak", "Quill")
SYLLABLES = ("Bri", "Tal", "Nor", "Vel", "Kas", "Mer", "Ost", "Pel", "Rin", "Sol", "Tor", "Ul", "Wes", "Zan")
LATE = ("CEO", "Employees")
"""What companies that need a second look only tell when they are asked for it."""


def names(count: int) -> list[str]:
    return [f"{_pick(n, 1)}{_pick(n, 2).lower()}{_pick(n, 3).lower()} {n} Industries" for n in range(1, count + 1)]


def _pick(number: int, salt: int) -> str:
    return SYLLABLES[_dice(f"{number}/{salt}") % len(SYLLABLES)]


def _dice(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())


def _chance(text: str) -> float:
    return _dice(text) / 2**48


def truth(name: str) -> dict[str, Any]:
    number = _dice(name)
    host = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return {
        "founded": 1900 + number % 120,
        "headquarters": CITIES[number % len(CITIES)],
        "ceo": f"{FIRST[number // 7 % len(FIRST)]} {LAST[number // 11 % len(LAST)]}",
        "employees": 20 + number % 9000,
        "website": f"https://www.{host}.example",
    }


@dataclass
class Web:
    search_s: float
    extract_s: float
    reflect_s: float
    fault: float
    broken: float
    second: float
    hang_s: float = 600.0
    tries: Counter[str] = field(default_factory=Counter)
    queries: dict[str, list[str]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    worked_s: Counter[str] = field(default_factory=Counter)
    now: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    log: TextIO | None = None

    async def work(self, kind: str, key: str, name: str, seconds: float) -> int:
        """Take that long, or fail: the status, 200 when all is well."""
        self.asked[kind] += 1
        self.tries[key] += 1
        dice = _chance(f"{kind} {key} {self.tries[key]}")
        fault = ("429", "500", "hang")[int(dice / self.fault * 3)] if dice < self.fault else ""
        self.now[kind] += 1
        self.most[kind] = max(self.most[kind], self.now[kind])
        loop = asyncio.get_running_loop()
        began, at, how = loop.time(), time.time(), fault or "left"
        try:
            if fault:
                self.faults[f"{kind} {fault}"] += 1
            await asyncio.sleep({"429": 0.02, "500": seconds, "hang": self.hang_s}.get(fault, seconds))
            how = fault or "done"
        finally:
            self.now[kind] -= 1
            if fault != "hang":  # how soon that is noticed is not the provider's doing
                self.worked_s[kind] += loop.time() - began
            if self.log is not None:
                line = {"kind": kind, "name": name, "key": key, "began": at, "ended": time.time(), "how": how}
                print(json.dumps(line), file=self.log, flush=True)
        return {"429": 429, "500": 500, "hang": 500}.get(fault, 200)

    def needs_second(self, name: str) -> bool:
        return _chance(f"second {name}") < self.second

    def is_broken(self, name: str) -> bool:
        number = re.search(r"\d+", name)
        return bool(self.broken and number) and int(number[0]) % round(1 / self.broken) == 100

    async def search(self, body: dict[str, Any]) -> tuple[int, Any]:
        query = str(body["query"])
        name = company_in(query)
        if self.is_broken(name):
            self.asked["search"] += 1
            return 400, {"detail": {"error": "this query is not supported"}}
        status = await self.work("search", query, name, self.search_s)
        if status != 200:
            return status, {"detail": {"error": "try later"}}
        seen = self.queries.setdefault(name, [])
        if query not in seen:
            seen.append(query)
        late = seen.index(query) >= 3
        facts = truth(name)
        host = facts["website"]
        lines = [
            f"{name} is a maker of instruments. This page tells about {name}.",
            f"Founded: {facts['founded']}",
            f"Headquarters: {facts['headquarters']}",
        ]
        if late or not self.needs_second(name):
            lines += [f"CEO: {facts['ceo']}", f"Employees: {facts['employees']:,}"]
        page = "\n".join(lines)
        results = [
            {"title": f"{name} - about", "url": f"{host}/about{seen.index(query)}", "content": page, "score": 0.9},
            {
                "title": f"{name} in the news",
                "url": f"https://news.example/{_dice(query) % 10_000_000}",
                "content": f"{name} opened a new hall last spring. " * 20,
                "score": 0.5,
            },
        ]
        return 200, {"query": query, "results": results, "response_time": self.search_s}

    async def message(self, body: dict[str, Any]) -> tuple[int, Any]:
        said = json.dumps(body, ensure_ascii=False)
        name = company_in(said)
        reflecting = is_reflection(body)
        kind = "reflect" if reflecting else "extract"
        sources = re.sub(r"untrusted [0-9a-f]{8}", "", said)  # the marks of outside text are new each time
        key = f"{kind} {name} {_dice(sources)}"
        status = await self.work(kind, key, name, self.reflect_s if reflecting else self.extract_s)
        if status != 200:
            type = "rate_limit_error" if status == 429 else "api_error"
            return status, {"type": "error", "error": {"type": type, "message": "try later"}}
        answer = reflection(body) if reflecting else extraction(body)
        return 200, {
            "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"],
            "content": [{"type": "text", "text": json.dumps(answer)}],
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": len(said) // 4, "output_tokens": 120,
                      "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0},
        }  # fmt: skip

    def figures(self) -> dict[str, Any]:
        return {
            "asked": dict(self.asked),
            "faults": dict(self.faults),
            "worked_s": {kind: round(seconds, 2) for kind, seconds in self.worked_s.items()},
            "most_at_once": dict(self.most),
        }


def company_in(text: str) -> str:
    found = re.search(r"[A-Z][a-z]+ \d+ Industries", text)
    return found[0] if found else text


def is_reflection(body: dict[str, Any]) -> bool:
    return "values" not in body["output_config"]["format"]["schema"].get("properties", {})


def reflection(body: dict[str, Any]) -> Any:
    """Nothing to add: the emptiest answer of the shape that was asked for."""
    return _empty(body["output_config"]["format"]["schema"])


def _empty(schema: dict[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            return {name: _empty(inner) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return 0
        case "boolean":
            return False
    return ""


_SOURCE = re.compile(r"\[untrusted ([0-9a-f]{8}): source (\d+)[^\n]*\n(.*?)\n\[end untrusted \1\]", re.DOTALL)
_LINE = re.compile(r"^(Founded|Headquarters|CEO|Employees): (.+)$", re.MULTILINE)


def extraction(body: dict[str, Any]) -> Any:
    """What a careful reader finds in the sources of the prompt."""
    content = body["messages"][0]["content"]
    prompt = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    values: dict[str, dict[str, Any]] = {}
    for _, number, text in _SOURCE.findall(prompt):
        for label, said in _LINE.findall(text):
            path = label.lower()
            value: Any = int(said.replace(",", "")) if path in ("founded", "employees") else said
            values.setdefault(path, {"path": path, "value": value, "source": int(number), "quote": f"{label}: {said}"})
    return {"values": list(values.values())}


# The server


async def unless_left(work: Coroutine[Any, Any, tuple[int, Any]], receive: Any) -> tuple[int, Any] | None:
    """What comes of the work; None when whoever asked for it has gone."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


async def serve(web: Web, port: int) -> None:
    import uvicorn

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"]
        status: int
        answer: Any
        if path == "/figures":
            status, answer = 200, web.figures()
        elif path in ("/search", "/v1/messages"):
            work = web.search if path == "/search" else web.message
            found = await unless_left(work(json.loads(body)), receive)
            if found is None:
                return
            status, answer = found
        else:
            status, answer = 404, {"error": "not here"}
        said = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        if status == 429:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="error", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve([listener])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    for name, value in (
        ("search", 0.8), ("extract", 1.2), ("reflect", 0.6), ("fault", 0.05), ("broken", 0.003), ("second", 0.4),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=float, default=value)
    parser.add_argument("--log", type=Path, help="a line for each call: what, when, and how it ended")
    said = parser.parse_args()
    web = Web(said.search, said.extract, said.reflect, said.fault, said.broken, said.second)
    web.log = said.log.open("a") if said.log else None
    asyncio.run(serve(web, said.port))


if __name__ == "__main__":
    sys.exit(main())
