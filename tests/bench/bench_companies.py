"""What a job of company research costs in the coordinator, and what one company takes beyond its providers' latencies.

pytest -m bench -s tests/bench/bench_companies.py

The stand-in of the research server answers at once, so what is measured is ours. "one process": coordinator, workers
and stand-in together. "coordinator": the workers run apart, over HTTP, and only the coordinator's time counts.
"""

from __future__ import annotations

import asyncio
import os
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

from quarterdeck.agents.companies.jobs import Jobs
from quarterdeck.agents.companies.outfit import Office
from quarterdeck.agents.companies.running import coordinator
from quarterdeck.agents.companies.store import Store
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
    last = [job async for job in running.jobs.watch(id)][-1]
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


async def test_the_fleets_pace_under_faults(tmp_path: Path) -> None:
    """Search 0.8 s, extraction 1.2 s, reflection 0.6 s; 3 % of calls fail in passing and 2 % hang."""
    weather = Weather({"research_company": 0.8, "extract_data": 1.2, "reflect_quality": 0.6}, 0.03, 0.02)
    number = int(os.environ.get("QUARTERDECK_TEST_COMPANIES", "400"))
    async with office(tmp_path, weather) as running:
        cpu, clock = await job(running, "fleet", number)
        done = await running.jobs.status("fleet")
        cut = {name: pool.cut for name, pool in running.pools.items()}
    bounds = {"research": done.iterations * 0.8 / 50, "extraction": done.iterations * 1.2 / 25}
    bounds["reflection"] = done.iterations * 0.6 / 20
    bound = max(bounds.values())
    print(
        f"\n{number} companies, {done.iterations} iterations: {clock:.1f} s; the bound by extraction alone is "
        f"{bound:.1f} s, so {clock / bound:.2f} ×; {cpu / clock:.0%} of a core for all of it; cut off: {cut}"
    )


async def test_a_million_names_in_bounded_memory(tmp_path: Path) -> None:
    def rss() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

    store = Store(Settings(home=tmp_path))
    await store.open()
    before, clock = rss(), time.monotonic()
    jobs = Jobs(store, engine=Nobody())
    stored = await jobs.submit((f"Company {n} Ltd" for n in range(1_000_000)), SCHEMA, id="m", by=KIM)
    took = time.monotonic() - clock
    size = (tmp_path / "companies.db").stat().st_size >> 20
    clock = time.monotonic()
    assert len(await store.waiting("m", 900_000, 200)) == 200
    look = time.monotonic() - clock
    print(
        f"\n{stored.total:,} names stored in {took:.0f} s, {rss() - before} MB more memory, {size} MB of file; "
        f"a page of those that wait: {look * 1000:.1f} ms"
    )
    await store.close()


class Nobody:
    """An engine that runs nothing."""

    running = frozenset({"m"})

    async def start(self, name: str, argument: dict[str, Any], id: str) -> str:
        return id


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
