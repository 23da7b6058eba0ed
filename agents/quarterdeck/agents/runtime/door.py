"""Who comes in: Host and Origin, the size of what they send, and the bearer token that says who they are."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.routes.common import DefaultServerCallContextBuilder
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from quarterdeck.agents.runtime import body
from quarterdeck.keel import identity
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import READ, Caller
from quarterdeck.keel.settings import HttpSettings

PUBLIC = re.compile(r"/healthz|/\.well-known/jwks\.json|(/[^/]+)?/\.well-known/agent-card\.json")


class Door:
    """Middleware. What passes has `scope["state"]["caller"]`; what goes to `agents` is JSON."""

    def __init__(self, app: ASGIApp, http: HttpSettings, agents: Collection[str]) -> None:
        self._app, self._verifier, self._agents = app, identity.verifier(http), agents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or PUBLIC.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        caller = await self._caller(Request(scope))
        if caller is None:
            said = {"error": "A valid bearer token is needed: Authorization: Bearer …"}
            await JSONResponse(said, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        if READ not in caller.scopes:
            said = {"error": f"{caller.id} may not read here: its token lacks the scope '{READ}'."}
            await JSONResponse(said, 403)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        try:
            came = await body.read(receive)
        except Refusal as error:
            await JSONResponse({"error": str(error)}, 413, {"connection": "close"})(scope, receive, send)
            return
        if came and scope["path"].split("/")[1] in self._agents:
            try:
                body.check(came)
            except Refusal as error:
                rpc = scope["path"].endswith("/")
                await JSONResponse(body.refused(str(error), rpc=rpc), 200 if rpc else 400)(scope, receive, send)
                return
        await self._app(scope, body.again(came, receive), send)

    async def _caller(self, request: Request) -> Caller | None:
        if self._verifier is None:
            return Caller("http:anyone-on-this-machine")
        given = request.headers.getlist("authorization")
        scheme, _, token = (given[0] if given else "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(given) > 1:  # of two, others might read the other one
            return None
        found = await self._verifier.verify_token(token.strip())
        return identity.caller_of_token(found) if found is not None else None


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
