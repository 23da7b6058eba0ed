"""What a job of company research costs in the coordinator, and what one company takes beyond its providers' latencies.

pytest -m bench -s tests/bench/bench_companies.py

The stand-in of the research server answers at once, so what is measured is ours. "one process": coordinator, workers
and stand-in together. "coordinator": the workers run apart, over HTTP, and only the coordinator's time counts.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from research_standin import SCHEMA, Weather, create

from quarterdeck.agents.companies.outfit import Office
from quarterdeck.agents.companies.running import coordinator
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel import flows
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.settings import CompaniesSettings, Settings

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
KIM = Caller("local:kim")
COMPANIES = 300

WORKERS = """
import socket, sys
from pathlib import Path
import uvicorn
from contextlib import asynccontextmanager
from research_standin import Weather, create
from quarterdeck.agents.companies import workers
from quarterdeck.agents.companies.cards import WORKERS
from quarterdeck.agents.companies.fleet import benched
from quarterdeck.agents.companies.store import Store
from quarterdeck.agents.runtime.app import create_app
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel.identity import Caller
from quarterdeck.keel.memoryflows import memory_engine
from quarterdeck.keel.settings import CompaniesSettings, Settings

limits = CompaniesSettings(at_once={"research": 50, "extraction": 25, "reflection": 20, "storage": 10})
settings = Settings(home=Path(sys.argv[1]), companies=limits)

@asynccontextmanager
async def engine():
    store = Store(settings)
    await store.open()
    async with Toolbox({"research": create(Weather())}, Caller("agent:w"), at_once=200) as tools:
        async with benched(settings, tools, store, alone=True), memory_engine() as running:
            yield running
    await store.close()

listener = socket.socket(proto=socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
listener.listen(128)
print(listener.getsockname()[1], flush=True)
app = create_app(list(WORKERS.values()), settings, engine, "http://127.0.0.1")
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
"""


@contextmanager
def workers(home: Path) -> Iterator[str]:
    command = [sys.executable, "-P", "-c", WORKERS, str(home)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[1] / "data")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def office(home: Path, weather: Weather, **companies: Any) -> AsyncIterator[Office]:
    settings = Settings(home=home, companies=CompaniesSettings(**companies))
    engine = flows.engine(settings.flows, home)
    async with (
        Toolbox({"research": create(weather)}, Caller("agent:companies"), at_once=200) as tools,
        coordinator(settings, tools, engine) as running,
    ):
        yield running


async def job(running: Office, id: str, number: int, start: int = 0) -> tuple[float, float]:
    """Seconds of CPU and of the clock."""
    names = [f"Company {start + n}" for n in range(number)]
    cpu, clock = time.process_time(), time.monotonic()
    await running.jobs.submit(names, SCHEMA, id=id, by=KIM)
    async for _ in running.jobs.watch(id):
        pass
    last = await running.jobs.status(id)
    assert (last.state, last.good) == ("completed", number)
    return time.process_time() - cpu, time.monotonic() - clock


@pytest.mark.parametrize("where", ["one process", "coordinator"])
async def test_cpu_of_a_company(where: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        apart: dict[str, Any] = {}
        if where == "coordinator":
            url = stack.enter_context(workers(tmp_path))
            apart = dict.fromkeys(("research", "extraction", "reflection", "storage"), url)
            apart["at_once"] = {"research": 50, "extraction": 25, "reflection": 20, "storage": 10}
        async with office(tmp_path, Weather(), **apart) as running:
            await job(running, "warm", 20, 10_000)
            cpu, clock = await job(running, "measured", COMPANIES)
            calls = sum(pool.calls for pool in running.pools.values())
    print(
        f"\n{where}: {cpu / COMPANIES * 1000:.1f} ms CPU a company, {COMPANIES / clock:.0f} companies/s, "
        f"{calls} calls, so {calls / clock:.0f} calls/s"
    )


async def test_one_company_beyond_its_latencies(tmp_path: Path) -> None:
    weather = Weather(latency_s={"": 0.1})
    took = []
    async with office(tmp_path, weather) as running:
        for n in range(25):
            before = len(weather.calls)
            _, clock = await job(running, f"j{n}", 1, n)
            took.append(clock - 0.1 * (len(weather.calls) - before))
            await asyncio.sleep(0)
    print(f"\none company: {median(took) * 1000:.0f} ms beyond its calls' latencies (p50 of {len(took)})")
