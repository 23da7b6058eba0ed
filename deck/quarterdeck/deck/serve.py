"""`quarterdeck serve`: one server over stdio for an AI client, or several over HTTP on one port."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from quarterdeck.deck import welcome
from quarterdeck.keel import signals, stdio
from quarterdeck.keel.errors import Refusal

if TYPE_CHECKING:
    from fastmcp import FastMCP
    from starlette.applications import Starlette

    from quarterdeck.keel.settings import Settings

SERVERS = ("stats", "kubectl", "logs", "research", "bridge")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s {stats,kubectl,logs,research,bridge,all} ... [--http [--host HOST] [--port PORT]]"
    parser.description = (
        "Run one MCP server over stdio, as AI clients do by themselves after `quarterdeck install`; or, with --http, "
        "several on one port, for clients that are given an address."
    )
    parser.add_argument(
        "servers",
        nargs="+",
        choices=[*SERVERS, "all"],
        metavar="SERVER",
        help="stats, kubectl, logs, research, bridge or all",
    )
    parser.add_argument("--http", action="store_true", help="serve over streamable HTTP instead of stdio")
    parser.add_argument(
        "--host", help="with --http: address to bind (default 127.0.0.1; any other needs `quarterdeck token NAME`)"
    )
    parser.add_argument("--port", type=int, help="with --http: port (default 7300; 0 takes a free one)")


def run(arguments: argparse.Namespace) -> int:
    names = list(SERVERS) if "all" in arguments.servers else list(dict.fromkeys(arguments.servers))
    if arguments.http:
        from quarterdeck.keel.settings import load

        return serve_http(names, load(), arguments.host, arguments.port)
    if len(names) > 1:
        raise Refusal("Over stdio one process serves one server. Name one, or add --http to serve several.")
    return stdio.run(f"quarterdeck.{names[0]}.server")


def make(name: str, settings: Settings) -> FastMCP[Any]:
    server: FastMCP[Any] = import_module(f"quarterdeck.{name}.server").create_server(settings)
    return server


def serve_http(names: list[str], settings: Settings, host: str | None, port: int | None) -> int:
    import uvicorn

    from quarterdeck.keel.telemetry import log_to_stderr

    host = settings.http.host if host is None else host
    port = settings.http.port if port is None else port
    refuse_strangers(settings, host)
    listener = bind(host, port)
    port = listener.getsockname()[1]
    app = http_app(names, settings, host)
    log_to_stderr()
    shown = f"[{host}]" if ":" in host else host
    for name in names:
        print(f"{name:<8} http://{shown}:{port}/{name}", file=sys.stderr)
    print(f"{'health':<8} http://{shown}:{port}/healthz   metrics /metrics   Ctrl-C stops", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5, h11_max_incomplete_event_size=64 * 1024)
    with listener:
        signals.run(uvicorn.Server(config).serve(sockets=[listener]))
    return 0


def http_app(names: list[str], settings: Settings, host: str = "127.0.0.1") -> Starlette:
    """One app, one path a server, every request checked for Host and Origin, and for a token where tokens are set."""
    from contextlib import AsyncExitStack, asynccontextmanager

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    from quarterdeck.keel import identity
    from quarterdeck.keel.hosts import guard
    from quarterdeck.keel.telemetry import METRICS

    apps = {}
    for name in names:
        server = make(name, settings)
        server.auth = identity.verifier(settings.http)
        apps[name] = server.http_app(path=f"/{name}", host_origin_protection=False)  # guarded once, below

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        async with AsyncExitStack() as stack:
            for app in apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def allowed(request: Request) -> bool:
        verifier = identity.verifier(settings.http)
        presented = request.headers.get("authorization", "").partition(" ")[2]
        return verifier is None or (bool(presented) and await verifier.verify_token(presented) is not None)

    async def metrics(request: Request) -> Response:
        if not await allowed(request):
            return PlainTextResponse("A bearer token is needed.\n", 401, {"WWW-Authenticate": "Bearer"})
        return Response(METRICS.page(), media_type="text/plain; version=0.0.4")

    routes = [Route("/", welcome.index(names, allowed)), Route("/healthz", healthz), Route("/metrics", metrics)]
    routes += [Route(f"/{name}", welcome.Hint(name, app, allowed)) for name, app in apps.items()]
    # What a server serves beside MCP, such as the place where agents say that a task went on.
    routes += [
        route
        for name, app in apps.items()
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith(f"/{name}/")
    ]
    return Starlette(routes=routes, middleware=[guard(settings.http, host)], lifespan=lifespan)


def refuse_strangers(settings: Settings, host: str) -> None:
    """Where others can come in, they need a token."""
    if not loopback(host) and not settings.http.tokens and not settings.http.jwks_url:
        raise Refusal(
            f"{host} can be reached by others, and no bearer token is configured. Make one with "
            "`quarterdeck token NAME`, put what it prints into the settings file, and start again; or bind 127.0.0.1."
        )


def loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise Refusal(f"{port} is not a port. Choose one from 0 (any free one) to 65535 with --port.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because with protocol 0 asyncio leaves TCP_NODELAY off, and each event of a stream waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(256)
    except (OSError, UnicodeError) as error:
        listener.close()
        reason = (error.strerror if isinstance(error, OSError) else None) or "that is no address"
        raise Refusal(
            f"Cannot listen on {host} port {port}: {reason}. Choose another with --port (0 takes a free one)."
        ) from None
    return listener
