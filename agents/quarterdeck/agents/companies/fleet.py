"""The workers that a coordinator works with: by their addresses, or in this process where the calls are the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from quarterdeck.agents.companies import hop
from quarterdeck.agents.companies.cards import FLEET, PER_INSTANCE, WORKERS
from quarterdeck.agents.companies.objects import objects
from quarterdeck.agents.companies.outfit import Bench, working
from quarterdeck.agents.companies.pool import Instance, Pool
from quarterdeck.agents.companies.store import Store
from quarterdeck.agents.companies.workers import TIMEOUT_S
from quarterdeck.agents.runtime.app import create_app
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel.memoryflows import memory_engine
from quarterdeck.keel.settings import HttpSettings, Settings

BESIDE = ("research", "extraction", "reflection")
"""Workers that may run in processes beside the coordinator; the store stays with it."""
LONG_S = 120.0


def addresses(settings: Settings, worker: str) -> list[str]:
    """Where a worker's instances are; none: in this process."""
    named: str = getattr(settings.companies, worker)
    return [one.rstrip("/") for one in named.split()]


def at_once(settings: Settings, worker: str, *, alone: bool = False) -> int:
    """Calls that one instance takes at once; the whole fleet's, where it is the only one. `alone`: it serves others."""
    own = alone or bool(addresses(settings, worker))
    return settings.companies.at_once.get(worker) or (PER_INSTANCE if own else FLEET)[worker]


def in_hand(worker: str, number: int) -> int:
    """What a worker is given at once: a few more than it has with the model, so that the model never waits for one."""
    return number + -(-number // 3) if worker in ("extraction", "reflection") else number


def gated(settings: Settings, *, alone: bool = False) -> Settings:
    """For the research server of this process: as many with the model at once as its workers are to have there."""
    with_model = {
        "extract_at_once": at_once(settings, "extraction", alone=alone),
        "reflect_at_once": at_once(settings, "reflection", alone=alone),
    }
    return settings.model_copy(update={"research": settings.research.model_copy(update=with_model)})


@asynccontextmanager
async def benched(
    settings: Settings, tools: Toolbox | None, store: Store | None, *, alone: bool
) -> AsyncIterator[Bench]:
    """What workers of this process work with."""
    place = objects(settings.companies) if store is not None else None
    limits = {worker: in_hand(worker, at_once(settings, worker, alone=alone)) for worker in WORKERS}
    try:
        with working(Bench(tools, store, place, limits)) as bench:
            yield bench
    finally:
        if place is not None:
            await place.close()


def shared(settings: Settings, number: int, index: int) -> Settings:
    """What one of so many worker processes beside the coordinator is told: its part of what the fleet takes at once."""
    whole = {worker: at_once(settings, worker) for worker in BESIDE}
    parts = {worker: max(1, n // number + (index < n % number)) for worker, n in whole.items()}
    told = settings.companies.model_copy(update={"at_once": {**settings.companies.at_once, **parts}, "processes": 0})
    return settings.model_copy(update={"companies": told})


@asynccontextmanager
async def hired(
    settings: Settings, tools: Toolbox | None, store: Store, beside: Sequence[str] = ()
) -> AsyncIterator[dict[str, Pool]]:
    """A pool for each worker. `tools` may be None when none of them is in this process; `beside` are the sockets of
    processes on this machine that do the work of those without an address."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(benched(settings, tools, store, alone=False))
        # Nobody else reaches this app, so it asks nobody who they are.
        apart = settings.model_copy(update={"http": HttpSettings()})
        app = create_app(list(WORKERS.values()), apart, memory_engine, hop.HERE, host=None)
        await stack.enter_async_context(app.router.lifespan_context(app))
        token = settings.companies.token.get_secret_value()
        pools = {}
        for worker, timeout_s in TIMEOUT_S.items():
            number = in_hand(worker, at_once(settings, worker))
            if places := addresses(settings, worker):
                http = hop.client(None, token, number * len(places))
                instances = [Instance(f"{place}/{worker}", http, number) for place in places]
            elif beside and worker in BESIDE:
                parts = [at_once(shared(settings, len(beside), n), worker) for n in range(len(beside))]
                given = [(path, in_hand(worker, part)) for path, part in zip(beside, parts, strict=True)]
                instances = [Instance(f"{hop.BESIDE}/{worker}", hop.client(path, "", n), n) for path, n in given]
            else:
                instances = [Instance(f"{hop.HERE}/{worker}", hop.client(app, token, number), number)]
            pool = Pool(worker, instances, timeout_s)
            if worker == "storage":  # its database may be starting again, and what was found must not be lost
                pool.vain_s = LONG_S
            pools[worker] = await stack.enter_async_context(pool)
        yield pools
