"""What an agent needs around it in one process: its tools, its engine of flows, its settings."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from quarterdeck.deck.alongside import Hands, alongside
from quarterdeck.deck.serve import make
from quarterdeck.keel.identity import CHANGE, READ, SPEND, Caller

if TYPE_CHECKING:
    from quarterdeck.agents.companies.jobs import Jobs
    from quarterdeck.agents.companies.outfit import Office
    from quarterdeck.agents.runtime.toolbox import Toolbox
    from quarterdeck.keel.flowengine import Engine
    from quarterdeck.keel.memoryflows import MemoryEngine
    from quarterdeck.keel.settings import Settings

TOOLS = ("stats", "kubectl", "logs")
RESEARCHER = Caller("agent:companies", frozenset({READ, SPEND}), client="companies")
ENOUGH = 200
"""Tool calls in flight; the workers' own limits are lower."""
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


@asynccontextmanager
async def everybody(settings: Settings) -> AsyncIterator[Engine]:
    """The remediation agent and the coordinator of company research with its workers, on one engine."""
    async with _office(settings, settings.companies.processes, crew(settings)) as office:
        yield office.engine


@asynccontextmanager
async def companies(settings: Settings, *, adopt: bool = True, processes: int = 0) -> AsyncIterator[Jobs]:
    """Company research in this process, and in so many beside it: submit jobs, watch them, read what came out."""
    os.umask(0o077)
    from quarterdeck.keel import flows

    engine = flows.engine(settings.flows, settings.home, adopt=adopt)
    async with _office(settings, processes or settings.companies.processes, engine, adopt=adopt) as office:
        yield office.jobs


@asynccontextmanager
async def _office(
    settings: Settings, processes: int, engine: AbstractAsyncContextManager[Any], *, adopt: bool = True
) -> AsyncIterator[Office]:
    """The coordinator, with its workers in this process or in so many beside it."""
    from quarterdeck.agents.companies.running import coordinator

    async with AsyncExitStack() as stack:
        hands = await stack.enter_async_context(alongside(settings, processes))
        tools = None if processes else await stack.enter_async_context(researching(settings))
        started = _after(hands, engine) if processes else engine
        yield await stack.enter_async_context(coordinator(settings, tools, started, adopt=adopt, beside=hands.sockets))


@asynccontextmanager
async def _after(hands: Hands, engine: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """The engine, and then those who do what its flows ask for: both take their time to start."""
    async with engine as running:
        await hands.ready()
        yield running


@asynccontextmanager
async def worker(settings: Settings, name: str) -> AsyncIterator[MemoryEngine]:
    """What one worker agent needs in a process of its own: the tools, or the store."""
    os.umask(0o077)
    import quarterdeck.agents.companies.workers  # noqa: F401  it makes the flows known by their names
    from quarterdeck.agents.companies.fleet import benched
    from quarterdeck.agents.companies.store import Store
    from quarterdeck.keel.memoryflows import memory_engine

    async with AsyncExitStack() as stack:
        tools = store = None
        if name == "storage":
            store = Store(settings)
            stack.push_async_callback(store.close)
            await store.open()
        else:
            tools = await stack.enter_async_context(researching(settings, alone=True))
        await stack.enter_async_context(benched(settings, tools, store, alone=True))
        yield await stack.enter_async_context(memory_engine())


@asynccontextmanager
async def hands(settings: Settings) -> AsyncIterator[MemoryEngine]:
    """What a worker process beside a coordinator needs: the tools of those who research, extract and reflect."""
    os.umask(0o077)
    import quarterdeck.agents.companies.workers  # noqa: F401  it makes the flows known by their names
    from quarterdeck.agents.companies.fleet import benched
    from quarterdeck.keel.memoryflows import memory_engine

    async with (
        researching(settings, alone=True) as tools,
        benched(settings, tools, None, alone=True),
        memory_engine() as engine,
    ):
        await tools.open()
        yield engine


@asynccontextmanager
async def researching(settings: Settings, *, alone: bool = False) -> AsyncIterator[Toolbox]:
    """The tools of the workers: the research server of this process, or by address."""
    from quarterdeck.agents.companies.fleet import gated
    from quarterdeck.agents.runtime.toolbox import Toolbox

    place: Any = settings.agents.servers.get("research") or make("research", gated(settings, alone=alone))
    token = settings.agents.servers_token.get_secret_value()
    async with Toolbox({"research": place}, RESEARCHER, token=token, at_once=ENOUGH) as tools:
        yield tools
