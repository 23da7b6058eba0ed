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

from quarterdeck.titanium.story import PracticeWorld, practice_world

pytestmark = pytest.mark.bench
AT_ONCE = 100
ROUNDS = 3
AGENT_CALLS = 8
"""The setting agents.at_once: tool calls in flight."""
MOST_REQUESTS = 24
"""Twelve of the kubectl server's and twelve of the logs server's, whatever is called."""
POLICY = '[[changes.rules]]\ndecision = "allow"\ncaller = "agent:remediation"\n'


@pytest.mark.timeout(3000)
def test_100_incidents_at_once(tmp_path: Path) -> None:
    with practice_world(speed=12) as world:
        furnish(world)
        # Each answer takes a moment, as a real one does: without it no two requests would ever meet.
        world.weather("slow", seconds=0.02, times=1_000_000)
        # The world's logs grow from round to round, and with them what one run reads. So what a process holds after
        # many incidents is compared with what a new one holds after as many as fit into one round, on the same logs.
        worn = _rounds(world, tmp_path / "worn", ROUNDS)
        fresh = _rounds(world, tmp_path / "fresh", 1)
        most = world.call(lambda inside: inside.cluster.api.most_at_once)
        print(f"after {ROUNDS * AT_ONCE} incidents a process holds {worn / fresh:.2f} × a new one's after {AT_ONCE}")
        print(f"at most {most} requests at once at the cluster's API, with {AGENT_CALLS} tool calls in flight")
        assert most <= MOST_REQUESTS
        assert worn < fresh * 1.15


def _rounds(world: PracticeWorld, home: Path, rounds: int) -> float:
    """Incidents, AT_ONCE a round; what the process holds afterwards, in MiB."""
    more = {"AGENTS_STEADY_S": "0.5", "AGENTS_AT_ONCE": str(AGENT_CALLS)}
    with agent_process(home, world, config=POLICY, **more) as agent:
        print(f"\na new process holds {_resident_mib(agent):.0f} MiB")
        for turn in range(rounds):
            lock(world, SERVICE)
            until(lambda: restarts(world, SERVICE) > 1, "it suffers", 60)
            began = time.monotonic()
            outcomes = _all_at_once(agent, turn)
            took = time.monotonic() - began
            print(
                f"{AT_ONCE} incidents: {took:.0f} s, {dict(outcomes)}; then {_resident_mib(agent):.0f} MiB", flush=True
            )
            assert sum(outcomes.values()) == AT_ONCE and not outcomes["failed"]
        return _resident_mib(agent)


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
