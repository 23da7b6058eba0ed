"""Runs of the remediation agent that are killed with -9 in between, and what must be true of them afterwards."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from agent_process import Agent, Webhook, until

from quarterdeck.keel import audit
from quarterdeck.keel.errors import Refusal
from quarterdeck.titanium import system
from quarterdeck.titanium.cluster import NAMESPACE
from quarterdeck.titanium.faults import LOCKED
from quarterdeck.titanium.images import Behaviour
from quarterdeck.titanium.story import PracticeWorld
from quarterdeck.titanium.system import BY_NAME, Part
from quarterdeck.titanium.world import World

SERVICE, OTHER = "cart", "orders"
"""Deployments beside those of the practice system, which need nothing of one another."""
LONGEST_S = 120.0
"""A run that has not ended by then never will."""


@dataclass
class Figures:
    runs: int = 0
    kills: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    granted_while_dead: int = 0
    changes: int = 0
    applied: int = 0
    wrong: list[str] = field(default_factory=list)
    """What must not be."""


class Person:
    """Approves what waits, some time after it was asked, whether the agent lives or not."""

    def __init__(self, agent: Agent, dice: random.Random) -> None:
        self.agent, self.dice = agent, dice
        self.alive = True
        """Whether the agent is, just now."""
        self.while_dead = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._decide, name="person")

    def __enter__(self) -> Person:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _decide(self) -> None:
        while not self._over.wait(self.dice.random() * 0.4):
            for pending in self.agent.changes.waiting():
                with suppress(Refusal):
                    self.agent.changes.grant(pending.id, by="kim in a terminal")
                    self.while_dead += not self.alive


def furnish(world: PracticeWorld) -> None:
    """Put the services in place."""

    def put(inside: World) -> None:
        for number, name in enumerate((SERVICE, OTHER)):
            part = BY_NAME[name] = Part(name, "", 9100 + number)
            inside.cluster.create("Service", name, **system.service(part))
            inside.cluster.create("Deployment", name, **system.deployment(part))

    world.call(put)
    until(lambda: all(well(world, name) for name in (SERVICE, OTHER)), "the services are ready", 30)


def crashed_runs(
    world: PracticeWorld, agent: Agent, hook: Webhook, runs: int, dice: random.Random, figures: Figures
) -> None:
    """Break a service, start some runs on it at once, kill the agent once or twice while they go on, and look at what
    became of them. Of several runs one acts at a time."""
    first = figures.runs
    lock(world, SERVICE)
    until(lambda: restarts(world, SERVICE) > 1, f"{SERVICE} suffers", 30)
    tasks: list[str] = []
    with Person(agent, dice) as person:
        for number in range(runs):
            said = agent.post("/agent/diagnose", {"service": SERVICE, "id": f"run-{first + number}"})
            tasks.append(said.json()["id"])
        for again in range(1 + (dice.random() < 0.3)):
            _wait_for_a_moment(agent, dice, len(tasks), any_at_all=again > 0)
            person.alive = False
            agent.kill()
            figures.kills += 1
            time.sleep(dice.random() * 0.5)
            agent.start()
            person.alive = True
        ended = {task: _ended(agent, task) for task in tasks}
        figures.granted_while_dead += person.while_dead
    figures.runs += runs
    for task, flow in ended.items():
        figures.outcomes[str(flow.get("outcome") or flow.get("state"))] += 1
        if "outcome" not in flow:
            figures.wrong.append(f"{task} has no report: {flow}")
    _look(world, agent, hook, figures)
    world.call(lambda inside: inside.behave(SERVICE, None))
    until(lambda: well(world, SERVICE), f"{SERVICE} is well again", 60)


def _wait_for_a_moment(agent: Agent, dice: random.Random, runs: int, any_at_all: bool) -> None:
    """Any moment of the runs; more often one between asking and the end, where there is more to lose."""
    if any_at_all or dice.random() < 0.4:
        time.sleep(dice.random() * (2 + runs))
        return
    asked, deadline = _lines(agent), time.monotonic() + 4 * runs + 10
    while _lines(agent) == asked and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(dice.random() * 2.0)


def _lines(agent: Agent) -> int:
    with suppress(FileNotFoundError):
        return agent.changes.trail.read_bytes().count(b"\n")
    return 0


def _look(world: PracticeWorld, agent: Agent, hook: Webhook, figures: Figures) -> None:
    events: dict[str, Counter[str]] = {}
    for line in audit.entries(agent.changes.trail):
        if change := line.get("change"):
            events.setdefault(change, Counter())[line["event"]] += 1
    figures.changes = sum(one["started"] for one in events.values())
    figures.applied = sum(one["applied"] for one in events.values())
    for change, times in events.items():
        if max(times["started"], times["applied"], times["granted"]) > 1:
            figures.wrong.append(f"{change} twice: {dict(times)}")
        if times["granted"] and not times["started"]:
            figures.wrong.append(f"the approval of {change} was lost: {dict(times)}")
    rollouts = revision(world, SERVICE) - 1
    if rollouts != figures.changes:
        figures.wrong.append(f"{rollouts} rollouts under {figures.changes} grants")
    with closing(sqlite3.connect(agent.home / "reports.db")) as db:
        reports = {id for (id,) in db.execute("SELECT id FROM reports")}
    if len(reports) != figures.runs:
        figures.wrong.append(f"{len(reports)} reports of {figures.runs} runs")
    figures.wrong += [f"told of {key}, which is no report" for key in set(hook.keys) - reports]
    if (verdict := agent.changes.verify_trail()).problem:
        figures.wrong.append(f"the audit trail: {verdict.problem}")
    with closing(sqlite3.connect(agent.home / "turns.db")) as db:
        left = db.execute("SELECT target, flow FROM turns").fetchall()
    figures.wrong += [f"{flow} did not give {target} back" for target, flow in left]


def lock(world: PracticeWorld, service: str) -> None:
    """What only a restart cures."""
    end = "CRITICAL: giving up after 5 retries, database is locked"
    world.call(lambda inside: inside.behave(service, Behaviour(dies=(*LOCKED, end), lives=0.5, says=LOCKED)))
    world.call(lambda inside: inside.cured_by_restart(service))


def restarts(world: PracticeWorld, service: str) -> int:
    """How often the container that fared worst was restarted."""

    def look(inside: World) -> int:
        pods = inside.cluster.store.all(inside.cluster.kinds.named("Pod"), NAMESPACE)
        own = [pod["status"] for pod in pods if pod["metadata"]["name"].startswith(service)]
        return max((one["restartCount"] for s in own for one in s.get("containerStatuses") or []), default=0)

    return world.call(look)


def well(world: PracticeWorld, service: str) -> bool:
    return world.call(lambda inside: len(inside.cluster.controllers.ready_pods(NAMESPACE, service)) > 0)


def revision(world: PracticeWorld, service: str) -> int:
    """How often it was rolled out."""

    def look(inside: World) -> int:
        deployment: Any = inside.cluster.get("Deployment", service)
        return int(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"])

    return world.call(look)


def _ended(agent: Agent, task: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = agent.get(f"/agent/report/{task}").json()
        except httpx.TransportError:
            return None
        return found if "outcome" in found or found.get("state") in ("failed", "cancelled") else None

    return dict(until(look, f"{task} ends", LONGEST_S))
