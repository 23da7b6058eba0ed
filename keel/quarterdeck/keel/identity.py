"""Who is calling. A grant belongs to its caller, so this must not be something a caller can make up.

Over stdio the caller is the operating system's user who started the client. Over HTTP it is the subject of the
bearer token; without tokens (loopback only) everyone on this machine is one caller. The client's own name is
kept for the record but proves nothing.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from quarterdeck.keel.answers import one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import HttpSettings, Token

if TYPE_CHECKING:
    from fastmcp import Context
    from fastmcp.server.auth import AccessToken, AuthProvider

READ, SPEND, CHANGE, APPROVE = "read", "spend", "change", "approve"
"""`spend` lets its holder cause costs at search providers and the model: start research, ask a worker. `approve` lets
its holder say yes to a change over A2A. Agents and bridges are not given it."""


@dataclass(frozen=True)
class Caller:
    id: str
    scopes: frozenset[str] = frozenset({READ, SPEND, CHANGE})
    client: str = ""
    """The client program as it names itself, for the audit trail only."""


@lru_cache(1)
def local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def caller_of(ctx: Context) -> Caller:
    """The caller of the tool call at hand."""
    from fastmcp.server.dependencies import get_access_token

    token = get_access_token()
    if token is not None:
        return caller_of_token(token, _client_name(ctx))
    acting = _acting.get()
    if acting is not None and ctx.transport is None:
        return acting
    if ctx.transport in ("streamable-http", "sse"):
        return Caller("http:anyone-on-this-machine", client=_client_name(ctx))
    return Caller(f"local:{local_user()}", client=_client_name(ctx))


def caller_now() -> Caller:
    """The same, anywhere inside a tool call."""
    from fastmcp.server.dependencies import get_context

    return caller_of(get_context())


def caller_of_token(token: AccessToken, client: str = "") -> Caller:
    # One program may hold tokens of many people: the subject tells them apart.
    subject = f"/{token.subject}" if token.subject and token.subject != token.client_id else ""
    return Caller(f"token:{token.client_id}{subject}", frozenset(token.scopes), client)


_acting: ContextVar[Caller | None] = ContextVar("quarterdeck_acting", default=None)


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Calls of servers in this process that are made inside are those of `caller`: an agent, not who started it."""
    token = _acting.set(caller)
    try:
        yield
    finally:
        _acting.reset(token)


def _client_name(ctx: Context) -> str:
    try:
        parameters = ctx.session.client_params
        info = parameters.client_info if parameters is not None else None
        return one_line(f"{info.name} {info.version}"[:400])[:80] if info is not None else ""
    except (AttributeError, RuntimeError):
        return ""


def new_token() -> tuple[str, str]:
    """A bearer token and the SHA-256 that settings keep of it."""
    import secrets

    token = f"qd_{secrets.token_urlsafe(32)}"
    return token, digest(token)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def find_token(tokens: list[Token], presented: str) -> Token | None:
    """Which of ours this is; compared in constant time, every one of them."""
    hashed = digest(presented)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, hashed):
            found = token
    return found


def verifier(http: HttpSettings) -> AuthProvider | None:
    """How bearer tokens are checked over HTTP; None when none are configured."""
    if not http.tokens and not http.jwks_url:
        return None
    if http.jwks_url and not (http.issuer and http.audience):
        raise Refusal(
            "Setting http.jwks_url needs http.issuer and http.audience too: without them a token that was made for "
            "another service would open this one."
        )
    from fastmcp.server.auth import AccessToken, MultiAuth, TokenVerifier

    class OwnTokens(TokenVerifier):
        async def verify_token(self, token: str) -> AccessToken | None:
            found = find_token(http.tokens, token)
            if found is None:
                return None
            return AccessToken(token=token, client_id=found.name, scopes=list(found.scopes))

    own = OwnTokens()
    if not http.jwks_url:
        return own
    from fastmcp.server.auth.providers.jwt import JWTVerifier

    jwt = JWTVerifier(jwks_uri=http.jwks_url, issuer=http.issuer or None, audience=http.audience or None)
    return MultiAuth(verifiers=[own, jwt]) if http.tokens else jwt
