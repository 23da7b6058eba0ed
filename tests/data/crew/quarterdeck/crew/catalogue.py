"""A catalogue of agents that speaks ARD: its manifest, its list, its search; honest, or broken in one way."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

A2A = "application/a2a-agent-card+json"


def entry(identifier: str, *, url: str = "", **more: Any) -> dict[str, Any]:
    return {
        "identifier": f"urn:air:{identifier}",
        "displayName": identifier.rpartition(":")[2],
        "type": A2A,
        "description": f"does what {identifier} does",
        "representativeQueries": ["do it for me", "please do it"],
        **({"url": url} if url else {}),
        **more,
    }


def mcp_server(identifier: str) -> dict[str, Any]:
    return entry(identifier, url="https://mcp.example/weather.json", type="application/mcp-server-card+json")


def skill(identifier: str) -> dict[str, Any]:
    return entry(identifier, url="https://skills.example/slides", type="application/ai-skill+md")


class Registry:
    """What it lists, what only its search finds, and what it was asked."""

    def __init__(self, entries: list[dict[str, Any]] | None = None) -> None:
        self.entries = entries or []
        self.hidden: list[dict[str, Any]] = []
        """Found by searching, not listed."""
        self.manifest: list[dict[str, Any]] | None = None
        self.legacy = False
        self.lists, self.filters, self.retrieves, self.sparse, self.down = True, True, True, False, False
        self.how = ""
        """What is wrong with it."""
        self.page = 100
        self.token = ""
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{rest:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        self.headers.append(dict(request.headers))
        if self.down:
            return JSONResponse({"errorCode": "UNAVAILABLE", "message": "down"}, status_code=503)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"errorCode": "UNAUTHENTICATED", "message": "no"}, status_code=401)
        if path.startswith("/.well-known/"):
            named = "/.well-known/ai-catalog.json" if self.legacy else "/.well-known/ard.json"
            if self.manifest is None or path != named:
                return JSONResponse({}, status_code=404)
            return JSONResponse({"specVersion": "1.0", "entries": self.manifest})
        if path.endswith("/search"):
            return await self._search(request)
        if path.endswith("/agents"):
            return self._wrong(request) or self._list(request)
        one = [item for item in self.entries + self.hidden if path.endswith(f"/agents/{item['identifier']}")]
        if self.retrieves and one:
            return JSONResponse(one[0])
        return JSONResponse({"errorCode": "NOT_FOUND", "message": "no such entry"}, status_code=404)

    def _list(self, request: Request) -> Response:
        asked = request.query_params
        if not self.lists:
            return JSONResponse({"errorCode": "NOT_FOUND", "message": "not offered"}, status_code=404)
        if "filter" in asked and not self.filters:
            return JSONResponse({"errorCode": "INVALID_ARGUMENT", "message": "no filters"}, status_code=400)
        items = [item for item in self.entries if "filter" not in asked or item["type"] == A2A]
        begin, size = int(asked.get("pageToken") or 0), min(int(asked["pageSize"]), self.page)
        body: dict[str, Any] = {"items": items[begin : begin + size], "total": len(items)}
        if begin + size < len(items):
            body["pageToken"] = str(begin + size)
        return JSONResponse(body)

    async def _search(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        if not self.filters and "filter" in body["query"]:
            return JSONResponse({"errorCode": "INVALID_ARGUMENT", "message": "no filters"}, status_code=400)
        asked = set(body["query"]["text"].lower().split())
        found = []
        for item in self.hidden + self.entries:
            text = f"{item.get('description')} {' '.join(item.get('representativeQueries', []))}".lower()
            if asked & set(text.split()):
                shown = {"identifier": item["identifier"]} if self.sparse else item
                found.append({**shown, "score": item.get("score", 80), "source": str(request.base_url)})
        return JSONResponse({"results": found[: body.get("pageSize", 10)]})

    def _wrong(self, request: Request) -> Response | None:
        number = len([one for one in self.asked if one.endswith("/agents")])
        match self.how:
            case "huge":
                return JSONResponse(
                    {"items": [entry("a.example:x", url="https://a.example/", description="x" * 3_000_000)]}
                )
            case "HTML":
                return Response(
                    "<html><body>Welcome \x1b[31m sk-ant-api03-planted</body></html>", media_type="text/html"
                )
            case "a list":
                return JSONResponse([1, 2, 3])
            case "wrong types":
                return JSONResponse({"items": {"identifier": 7}})
            case "nested too deep":
                return Response('{"items":' + "[" * 100_000, media_type="application/json")
            case "redirect":
                return Response(status_code=302, headers={"location": "http://169.254.169.254/latest/meta-data/"})
            case "drips":
                return StreamingResponse(_drip(), media_type="application/json")
            case "the same page for ever":
                return JSONResponse({"items": self.entries, "pageToken": "again"})
            case "new pages for ever":
                items = [entry(f"127.0.0.1:n{number}x{n}", url=f"http://127.0.0.1:9/{number}/{n}") for n in range(30)]
                return JSONResponse({"items": items, "pageToken": str(number)})
        return None


async def _drip() -> Any:
    yield b'{"items": ['
    while True:
        yield b" "
        await asyncio.sleep(0.05)
