"""Who comes in: Host and Origin, the size of what they send, and the bearer token that says who they are."""

from __future__ import annotations

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
            said = {"error": "A valid bearer token is needed: Authorization: Bearer …"}
            await JSONResponse(said, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        body = await _read(receive)
        if body is None:
            said = {"error": f"The request is larger than {LARGEST >> 20} MB. Send less."}
            await JSONResponse(said, 413, {"connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)

    async def _caller(self, request: Request) -> Caller | None:
        if self._verifier is None:
            return Caller("http:anyone-on-this-machine")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        found = await self._verifier.verify_token(token.strip())
        return identity.caller_of_token(found) if found is not None else None


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or None when it is larger than anybody needs."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":  # they hung up
            return bytes(body)
        body += message.get("body") or b""
        if len(body) > LARGEST:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever else comes: that the caller hung up, for one."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


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
        for secret in ("authorization", "cookie"):  # nobody behind the door needs them
            context.state["headers"].pop(secret, None)
        return context
