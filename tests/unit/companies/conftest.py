"""A coordinator with its workers in this process, over a stand-in for the research server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from research_standin import Weather, create

from quarterdeck.agents.companies.outfit import Office
from quarterdeck.agents.companies.running import coordinator
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel import flows
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import Settings, load

Run = Callable[..., AbstractAsyncContextManager[Office]]
KIM = Caller("local:kim")


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"QUARTERDECK_HOME": str(tmp_path / "home"), "QUARTERDECK_CONFIG": "", "HOME": str(tmp_path)})


@pytest.fixture
def run(settings: Settings, weather: Weather) -> Run:
    @asynccontextmanager
    async def running(**changes: Any) -> AsyncIterator[Office]:
        chosen = settings.model_copy(update={"companies": settings.companies.model_copy(update=changes)})
        async with Toolbox({"research": create(weather)}, Caller("agent:companies"), at_once=200) as tools:
            engine = flows.engine(chosen.flows, chosen.home, beat_s=0.3, dead_s=2.0)
            async with coordinator(chosen, tools, engine) as office:
                yield office

    return running


async def ended(office: Office, id: str, seconds: float = 40) -> Any:
    """The job once it has ended."""
    async with asyncio.timeout(seconds):
        async for job in office.jobs.watch(id, every_s=0.1):
            last = job
    return last
