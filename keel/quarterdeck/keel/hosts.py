"""Which Host and Origin headers a web face of ours answers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quarterdeck.keel.settings import HttpSettings

if TYPE_CHECKING:
    from starlette.middleware import Middleware


def guard(http: HttpSettings, host: str) -> Middleware:
    """Loopback, the address that is bound, and what the settings name; no other host, no other origin."""
    from fastmcp.server.http import HostOriginGuardMiddleware
    from starlette.middleware import Middleware

    own = [] if host in ("0.0.0.0", "::", "") else [host]
    return Middleware(
        HostOriginGuardMiddleware,
        allowed_hosts=[*own, *http.allowed_hosts],
        allowed_origins=http.allowed_origins,
        mode="strict",
    )
