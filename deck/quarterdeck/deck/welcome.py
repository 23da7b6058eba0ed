"""What a person sees who opens `quarterdeck serve --http` in a browser: which paths there are and how to use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

Check = Callable[["Request"], Awaitable[bool]]
"""Whether this request may be answered: it carries a right token, or none is needed."""


def index(names: list[str], allowed: Check) -> Callable[[Request], Awaitable[Response]]:
    """`GET /`: JSON for programs that ask for it, else plain text."""

    async def answer(request: Request) -> Response:
        from starlette.responses import JSONResponse, PlainTextResponse

        if not await allowed(request):
            return PlainTextResponse("A bearer token is needed.\n", 401, {"WWW-Authenticate": "Bearer"})
        base = str(request.base_url)
        servers = {name: base + name for name in names}
        own = {"health": f"{base}healthz", "metrics": f"{base}metrics"}
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"servers": servers, **own})
        lines = [f"{name:<8} {url}" for name, url in {**servers, **own}.items()]
        return PlainTextResponse(
            "Quarterdeck: MCP servers over streamable HTTP. Put the address of one into your AI client.\n\n"
            + "\n".join(lines)
            + "\n"
        )

    return answer


class Hint:
    """In front of an MCP server: a plain GET, as browsers send it, is told what this address is for."""

    def __init__(self, name: str, app: ASGIApp, allowed: Check) -> None:
        self._name, self._app, self._allowed = name, app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        request = Request(scope, receive)
        if not is_plain_get(request) or not await self._allowed(request):
            await self._app(scope, receive, send)
            return
        url = str(request.url.replace(query=""))
        # 405 is the protocol's own word for "no stream here": a client that asks this way goes on without one.
        answer = PlainTextResponse(
            f"This is the MCP server {self._name!r}. AI clients talk to it; a browser cannot.\n"
            f"Give a client this address as a server of the kind http (streamable HTTP): {url}\n"
            f"For example: claude mcp add --transport http quarterdeck-{self._name} {url}\n",
            405,
            {"Allow": "GET, POST, DELETE"},
        )
        await answer(scope, receive, send)


def is_plain_get(request: Request) -> bool:
    """MCP clients, of either era, ask for an event stream or send a header of the protocol."""
    return (
        request.method == "GET"
        and "text/event-stream" not in request.headers.get("accept", "").lower()
        and not any(name.startswith("mcp-") for name in request.headers)
    )
