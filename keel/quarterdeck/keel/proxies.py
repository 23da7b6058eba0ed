"""A proxy set for the whole machine knows nothing of this machine's own loopback addresses."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def spare_loopback(environ: MutableMapping[str, str] | None = None) -> None:
    """Where a proxy is set, reach loopback without it, in this process and those it starts; kubectl does the same."""
    environ = os.environ if environ is None else environ
    if not any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in environ):
        return
    spared = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = [*(host.strip() for host in spared.split(",") if host.strip()), *LOOPBACK]
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(dict.fromkeys(hosts))
