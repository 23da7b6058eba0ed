"""A coordinator in this process: its store, its workers, its engine, and the face to all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import quarterdeck.agents.companies.company
import quarterdeck.agents.companies.coordinator
import quarterdeck.agents.companies.feeding
import quarterdeck.agents.companies.workers  # noqa: F401  they make the flows known by their names
from quarterdeck.agents.companies.fleet import hired
from quarterdeck.agents.companies.jobs import Jobs
from quarterdeck.agents.companies.outfit import Office, coordinating
from quarterdeck.agents.companies.store import Store
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel.settings import Settings


@asynccontextmanager
async def coordinator(
    settings: Settings,
    tools: Toolbox | None,
    engine: AbstractAsyncContextManager[Any],
    *,
    adopt: bool = True,
    beside: Sequence[str] = (),
) -> AsyncIterator[Office]:
    """Jobs are run as long as this is entered; `engine` is entered last, for flows go on as soon as it is there.
    `adopt`: also those that another process left. `beside`: sockets of worker processes on this machine."""
    async with AsyncExitStack() as stack:
        store = Store(settings)
        stack.push_async_callback(store.close)
        await store.open()
        pools = await stack.enter_async_context(hired(settings, tools, store, beside))
        office = stack.enter_context(coordinating(Office(settings, store, pools)))
        running = await stack.enter_async_context(engine)
        office.begin(running, Jobs(store, running, office.model))
        if adopt:
            await office.jobs.pick_up()
        yield office
