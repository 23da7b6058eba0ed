"""100 incidents at once on one process of the agent: whether all end, what memory and the cluster's API bear.

pytest -m bench -s tests/bench/bench_incidents_at_once.py
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from agent_process import Agent, agent_process, until
from crashing import SERVICE, furnish, lock, restarts

from quarterdeck.titanium.story import practice_world

pytestmark = pytest.mark.bench
AT_ONCE = 100
AGENT_CALLS = 8
"""The setting agents.at_once: tool calls in flight. A tool may ask the API a few things side by side."""
POLICY = '[[changes.rules]]\ndecision = "allow"\ncaller = "agent:remediation"\n'


@pytest.mark.timeout(3000)
def test_100_incidents_at_once(tmp_path: Path) -> None:
    more = {"AGENTS_STEADY_S": "0.5", "AGENTS_AT_ONCE": str(AGENT_CALLS)}
    with practice_world(speed=12) as world, agent_process(tmp_path, world, config=POLICY, **more) as agent:
        furnish(world)
        # Each answer takes a moment, as a real one does: without it no two requests would ever meet.
        world.weather("slow", seconds=0.02, times=1_000_000)
        resident = [_resident_mib(agent)]
        for turn in range(2):
            lock(world, SERVICE)
            until(lambda: restarts(world, SERVICE) > 1, "it suffers", 60)
            began = time.monotonic()
            outcomes = _all_at_once(agent, turn)
            resident.append(_resident_mib(agent))
            most = world.call(lambda inside: inside.cluster.api.most_at_once)
            print(f"\n{AT_ONCE} incidents: {time.monotonic() - began:.0f} s, {dict(outcomes)}")
            print(f"resident {resident[-1]:.0f} MiB (before any: {resident[0]:.0f})")
            print(f"at most {most} requests at once at the cluster's API")
            assert sum(outcomes.values()) == AT_ONCE and not outcomes["failed"]
        assert most <= 2 * AGENT_CALLS
        assert resident[2] < resident[1] * 1.15, resident


def _all_at_once(agent: Agent, turn: int) -> Counter[str]:
    ids = [
        agent.post("/agent/diagnose", {"service": SERVICE, "id": f"incident-{turn}-{number}"}).json()["id"]
        for number in range(AT_ONCE)
    ]
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + 900
    while ids and time.monotonic() < deadline:
        found = agent.get(f"/agent/report/{ids[0]}").json()
        if "outcome" in found or found.get("state") in ("failed", "cancelled"):
            outcomes[str(found.get("outcome") or found["state"])] += 1
            ids.pop(0)
        else:
            time.sleep(0.5)
    return outcomes


def _resident_mib(agent: Agent) -> float:
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024
