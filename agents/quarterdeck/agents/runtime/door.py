"""Who comes in: Host and Origin, the size of what they send, and the bearer token that says who they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.routes.common import DefaultServerCallContextBuilder
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quarterdeck.keel import identity
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import HttpSettings

LARGEST = 2 * 1024 * 1024
PUBLIC = ("/healthz", "/.well-known/jwks.json", "/.well-known/agent-card.json", "/.well-known/agent.json")


class Door:
    """Middleware. What passes has `scope["state"]["caller"]`."""

    def __init__(self, app: ASGIApp, http: HttpSettings) -> None:
        self._app, self._verifier = app, identity.verifier(http)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(PUBLIC):
            await self._app(scope, receive, send)
            return
        caller = await self._caller(Request(scope))
        if caller is None:
            body = {"error": "A valid bearer token is needed: Authorization: Bearer …"}
            await JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, _bounded(receive), send)

    async def _caller(self, request: Request) -> Caller | None:
        if self._verifier is None:
            return Caller("http:anyone-on-this-machine")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        found = await self._verifier.verify_token(token.strip())
        return identity.caller_of_token(found) if found is not None else None


class TooLarge(Exception):
    """More was sent than anybody needs."""


def _bounded(receive: Receive) -> Callable[[], Awaitable[Message]]:
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body") or b"")
        if size > LARGEST:
            raise TooLarge
        return message

    return bounded


async def too_large(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"error": f"The request is larger than {LARGEST >> 20} MB."}, 413, {"connection": "close"})


class Identified(User):
    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def user_name(self) -> str:
        return self._caller.id


class ContextBuilder(DefaultServerCallContextBuilder):
    """Hands the caller whom the door let in to the handlers."""

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        caller: Any = request.scope["state"]["caller"]
        context.user, context.state["caller"] = Identified(caller), caller
        context.state.pop("headers", None)  # they hold the token, and nobody behind the door needs it
        return context
