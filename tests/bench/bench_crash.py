"""200 runs of the remediation agent, its process killed with -9 at random moments: what happened twice, what was lost.

pytest -m bench -s tests/bench/bench_crash.py
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from agent_process import agent_process, webhook
from crashing import Figures, crashed_runs, furnish

from quarterdeck.titanium.story import practice_world

pytestmark = pytest.mark.bench
RUNS, AT_ONCE = 200, 10


@pytest.mark.timeout(3600)
def test_200_runs_that_are_killed(tmp_path: Path) -> None:
    figures, dice, began = Figures(), random.Random(7), time.monotonic()
    quick = {"AGENTS_STEADY_S": "0.5", "AGENTS_HEALTHY_S": "10"}
    with practice_world(speed=12) as world, webhook() as hook, agent_process(tmp_path, world, hook, **quick) as agent:
        furnish(world)
        while figures.runs < RUNS:
            crashed_runs(world, agent, hook, AT_ONCE, dice, figures)
            print(f"{time.monotonic() - began:5.0f} s {figures}", flush=True)
        twice = len(hook.keys) - len(set(hook.keys))
    print(f"\n{figures.runs} runs, {figures.kills} kills, {dict(figures.outcomes)}")
    print(f"{figures.changes} changes begun, {figures.applied} recorded as applied, each once")
    print(f"{figures.granted_while_dead} approved while the agent was dead")
    print(f"{len(hook.keys)} posts to the webhook, {twice} of them repeated a report")
    print(f"wrong: {figures.wrong or 'nothing'}")
    assert not figures.wrong
