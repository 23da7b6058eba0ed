"""One web app for several agents: A2A by JSON-RPC and REST on `/NAME`, in protocol 1.0 and 0.3, and what they add."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from quarterdeck.agents.runtime.agent import Agent, card
from quarterdeck.agents.runtime.approvals import Approvals
from quarterdeck.agents.runtime.door import ContextBuilder, Door
from quarterdeck.agents.runtime.handler import Engine, Handler
from quarterdeck.agents.runtime.push import Push
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.hosts import guard
from quarterdeck.keel.memoryflows import MemoryEngine
from quarterdeck.keel.settings import Settings

BRIEF_TASKS = 200
"""Tasks of agents that are not durable which are kept to be read again."""

log = logging.getLogger(__name__)
for _name in ("a2a.server.routes", "a2a.compat"):
    logging.getLogger(_name).setLevel(logging.INFO)  # below that it writes down whole requests, credentials too


@dataclass
class Runtime:
    """What the routes that an agent adds may use."""

    settings: Settings
    changes: Changes
    approvals: Approvals
    push: Push
    url: str
    engine: Engine | None = None


Routes = Callable[[Runtime], Iterable[BaseRoute]]
OpenEngine = Callable[[], AbstractAsyncContextManager[Any]]


def create_app(
    agents: Sequence[Agent],
    settings: Settings,
    open_engine: OpenEngine,
    url: str,
    *,
    host: str | None = "127.0.0.1",
    routes: Routes | None = None,
) -> Starlette:
    """The app. `open_engine` gives the engine of flows for as long as the app runs; `url` is where callers reach it.
    `host`: what it is bound to; None when it listens nowhere and only this process calls it."""
    changes = Changes.of(settings)
    runtime = Runtime(settings, changes, Approvals(changes), Push(settings.home, settings.agents.push_allow), url)
    bearer = bool(settings.http.tokens or settings.http.jwks_url)
    engine, brief = _Late(runtime), MemoryEngine(BRIEF_TASKS)
    mounted: list[BaseRoute] = []
    cards = []
    for agent in agents:
        public = card(agent, f"{url}/{agent.name}", bearer=bearer)
        handler = Handler(agent, public, engine if agent.durable else brief, runtime.approvals, runtime.push)
        builder = ContextBuilder()
        own: list[BaseRoute] = [
            *create_agent_card_routes(public),
            *create_jsonrpc_routes(handler, "/", context_builder=builder, enable_v0_3_compat=True),
            *create_rest_routes(handler, context_builder=builder, enable_v0_3_compat=True),
        ]
        mounted.append(Mount(f"/{agent.name}", routes=own))
        cards.append(public)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with open_engine() as running:
            runtime.engine = running
            await runtime.push.start(running)
            deciding = asyncio.create_task(runtime.approvals.follow(running), name="decisions")
            try:
                yield
            finally:
                deciding.cancel()
                with suppress(asyncio.CancelledError):
                    await deciding
                await brief.close()
                await runtime.push.close()

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n" if runtime.engine is not None else "starting\n")

    async def keys(_: Request) -> Response:
        return JSONResponse(runtime.push.keys())

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/.well-known/jwks.json", keys),
            *(create_agent_card_routes(cards[0]) if cards else []),
            *(routes(runtime) if routes is not None else []),
            *mounted,
        ],
        middleware=[
            *([guard(settings.http, host)] if host is not None else []),
            Middleware(Door, http=settings.http, agents=[agent.name for agent in agents]),
        ],
        lifespan=lifespan,
    )


class _Late:
    """The engine of a runtime, which exists only while the app runs; routes are made before."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        if self._runtime.engine is None:
            raise RuntimeError("the app is not running")
        return getattr(self._runtime.engine, name)
