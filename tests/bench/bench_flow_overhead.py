"""What durable flows add to a run of the remediation agent: the same run on the durable engine and on one without a
database, in turns.

pytest -m bench -s tests/bench/bench_flow_overhead.py
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest

import quarterdeck.agents.remediation.flow  # noqa: F401  it makes the flow known by its name
from quarterdeck.agents.remediation.outfit import wearing
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.deck.crew import AGENT, TOOLS
from quarterdeck.deck.serve import make
from quarterdeck.keel import flows
from quarterdeck.keel.memoryflows import memory_engine
from quarterdeck.keel.settings import load
from quarterdeck.titanium.story import practice_world

pytestmark = pytest.mark.bench
ROUNDS = 12


@pytest.mark.timeout(900)
async def test_what_durability_adds_to_a_run(tmp_path: Path) -> None:
    """A run that waits for nobody and watches nothing, so that nothing hides what is added."""
    with practice_world(speed=12) as world:
        world.inject("disk-full")
        settings = load({**world.environment(), "QUARTERDECK_HOME": str(tmp_path), "HOME": str(tmp_path)})
        servers: dict[str, Any] = {name: make(name, settings) for name in TOOLS}
        took: dict[str, list[float]] = {"durable": [], "in memory": []}
        async with Toolbox(servers, AGENT) as tools:
            await tools.open()
            with wearing(settings, tools):
                async with flows.engine(settings.flows, tmp_path) as durable, memory_engine() as memory:
                    engines: dict[str, Any] = {"durable": durable, "in memory": memory}
                    for number in range(ROUNDS + 1):
                        for name in list(engines)[:: 1 if number % 2 else -1]:
                            began = time.perf_counter()
                            id = await engines[name].start("remediation", {"act": False}, id=f"run-{name[:2]}-{number}")
                            result = await engines[name].result(id)
                            if number:  # the first one warms up
                                took[name].append(time.perf_counter() - began)
                            assert result["outcome"] == "reported"
    middle = {name: statistics.median(times) for name, times in took.items()}
    best = {name: min(times) for name, times in took.items()}
    print()
    for name, times in took.items():
        print(f"{name:10} median {middle[name] * 1000:6.0f} ms, best {best[name] * 1000:6.0f} ms of {len(times)} runs")
    more, at_best = (times["durable"] / times["in memory"] - 1 for times in (middle, best))
    print(f"durability adds {more:+.1%} (best: {at_best:+.1%})")
