"""The remediation agent is killed with -9 at random moments of its runs: nothing is lost, nothing happens twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from agent_process import agent_process, webhook
from crashing import Figures, crashed_runs, furnish

from quarterdeck.titanium.story import practice_world


@pytest.mark.timeout(180)
def test_runs_that_are_killed_end_with_each_effect_once_and_no_approval_lost(tmp_path: Path) -> None:
    figures, dice = Figures(), random.Random(20261121)
    quick = {"AGENTS_STEADY_S": "0.5", "AGENTS_HEALTHY_S": "10"}
    with practice_world(speed=12) as world, webhook() as hook, agent_process(tmp_path, world, hook, **quick) as agent:
        furnish(world)
        for _ in range(2):
            crashed_runs(world, agent, hook, 3, dice, figures)
    assert figures.wrong == []
    assert figures.outcomes["recovered"] >= 1, figures.outcomes
    assert figures.changes >= 1
