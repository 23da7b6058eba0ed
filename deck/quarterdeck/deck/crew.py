"""What an agent needs around it in one process: its tools, its engine of flows, its settings."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from quarterdeck.deck.serve import make
from quarterdeck.keel.identity import CHANGE, READ, Caller

if TYPE_CHECKING:
    from quarterdeck.keel.flowengine import Engine
    from quarterdeck.keel.settings import Settings

TOOLS = ("stats", "kubectl", "logs")
AGENT = Caller("agent:remediation", frozenset({READ, CHANGE}), client="remediation")


@asynccontextmanager
async def crew(settings: Settings, *, adopt: bool = True) -> AsyncIterator[Engine]:
    """An engine that runs the agents' flows, with their tools at hand: servers of this process, or by address.
    `adopt`: also those that a process which is gone left unfinished."""
    os.umask(0o077)  # SQLite makes files of its own beside ours
    import quarterdeck.agents.remediation.flow  # noqa: F401  it makes the flow known by its name
    from quarterdeck.agents.remediation.outfit import wearing
    from quarterdeck.agents.runtime.toolbox import Toolbox
    from quarterdeck.keel import flows

    servers: dict[str, Any] = {name: settings.agents.servers.get(name) or make(name, settings) for name in TOOLS}
    token = settings.agents.servers_token.get_secret_value()
    async with Toolbox(servers, AGENT, token=token, at_once=settings.agents.at_once) as tools:
        await tools.open()
        with wearing(settings, tools):
            async with flows.engine(settings.flows, settings.home, adopt=adopt) as engine:
                yield engine
