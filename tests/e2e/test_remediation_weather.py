"""Bad weather around the remediation agent: what is down, refused, decided otherwise, full, late or cancelled."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent_process import agent_process, until
from crashing import OTHER, SERVICE, furnish, lock, restarts, revision, well

from quarterdeck.agents.remediation.alerts import Alerts, parse
from quarterdeck.agents.remediation.reports import Reports
from quarterdeck.agents.runtime.approvals import Approvals
from quarterdeck.deck.crew import crew
from quarterdeck.keel import audit
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.flowengine import Engine
from quarterdeck.keel.flows import Flow
from quarterdeck.keel.settings import Settings, load
from quarterdeck.titanium.images import Behaviour
from quarterdeck.titanium.story import PracticeWorld, practice_world

pytestmark = pytest.mark.weather
ALLOW = '[[changes.rules]]\ndecision = "allow"\ncaller = "agent:remediation"\ntool = "{tool}"\n'
RESTART = "restart_deployment"


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=20) as world:
        furnish(world)
        yield world


@pytest.fixture
def service(world: PracticeWorld) -> Iterator[str]:
    """One that has locked itself out and comes back with a restart."""
    name = SERVICE
    lock(world, name)
    until(lambda: restarts(world, name) > 1, f"{name} suffers", 30)
    yield name
    world.call(lambda inside: inside.cluster.weather.gusts.clear())
    for part in (name, "blog-service"):
        world.call(lambda inside, part=part: inside.behave(part, None))  # type: ignore[misc]
    world.clear()
    until(lambda: well(world, name) and world.call(lambda inside: inside.all_ready()), "all is well again", 30)


def settings_of(home: Path, world: PracticeWorld, policy: str = "", **more: str) -> Settings:
    home.mkdir(exist_ok=True)
    (home / "quarterdeck.toml").write_text(policy)
    return load(
        {
            **world.environment(),
            "HOME": str(home),
            "QUARTERDECK_HOME": str(home),
            "QUARTERDECK_CONFIG": str(home / "quarterdeck.toml"),
            "QUARTERDECK_STATS_SAMPLE_EVERY_S": "0.3",
            "QUARTERDECK_KUBECTL_VERIFY_S": "2",
            "QUARTERDECK_AGENTS_HEALTHY_S": "8",
            "QUARTERDECK_AGENTS_STEADY_S": "0.3",
            **{f"QUARTERDECK_{name}": value for name, value in more.items()},
        }
    )


class Agent:
    """The agent in this process: its engine, and the ledger that a person decides in."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.changes, self.reports = Changes.of(settings), Reports.of(settings)

    async def start(self, service: str, id: str = "run-1") -> str:
        return await self.engine.start("remediation", {"service": service, "text": ""}, id=id)

    async def asked(self, id: str, but: str = "") -> str:
        """Wait until a change is asked for (another one than `but`), and give its id."""

        async def look() -> str:
            flow = await self.engine.status(id)
            assert not flow.ended, (flow.error, (flow.result or {}).get("text"))
            change = str(flow.question.data["change_id"]) if flow.question is not None else ""
            return "" if change == but else change

        return str(await eventually(look, "it asks"))

    def approve(self, change: str) -> None:
        self.changes.grant(change, by="kim in a terminal")

    async def report(self, id: str) -> Any:
        async def ended() -> Flow | None:
            flow = await self.engine.status(id)
            return flow if flow.ended else None

        flow = await eventually(ended, "it ends")
        assert flow.result is not None, flow.error
        return self.reports.get(flow.result["report"])

    def events(self, change: str) -> list[str]:
        return [line["event"] for line in audit.entries(self.changes.trail) if line.get("change") == change]


async def eventually(look: Callable[[], Any], what: str, seconds: float = 50) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110 (other threads and processes make it so)
            await asyncio.sleep(0.05)
    assert found, what
    return found


@asynccontextmanager
async def agent_in(settings: Settings) -> AsyncIterator[Agent]:
    async with crew(settings) as engine:
        agent = Agent(engine, settings)
        deciding = asyncio.create_task(Approvals(agent.changes).follow(engine))
        try:
            yield agent
        finally:
            deciding.cancel()
            with suppress(asyncio.CancelledError):
                await deciding


class Apart:
    """`quarterdeck serve kubectl --http`: a tool server of its own that may die."""

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        self.environment = {**environment, "PATH": os.environ["PATH"], "QUARTERDECK_HOME": str(settings.home)}
        self.log, self.port = settings.home / "server.log", 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "serve", "kubectl", "--http", "--port"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.port)], env=self.environment, stderr=log, stdout=log)

        def up() -> bool:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/kubectl", self.log.read_text())
            self.port = int(found[1]) if found else 0
            with suppress(httpx.TransportError):
                return bool(self.port) and httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=2).is_success
            return False

        until(up, "the server serves", 40)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


async def test_a_tool_server_that_dies_between_detect_and_act_is_called_again_when_it_is_back(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, world)
    apart = Apart(settings, world.environment())
    try:
        address = f"kubectl=http://127.0.0.1:{apart.port}/kubectl"
        async with agent_in(settings_of(tmp_path, world, AGENTS_SERVERS=address)) as agent:
            run, before = await agent.start(service), revision(world, service)
            change = await agent.asked(run)
            apart.kill()
            agent.approve(change)
            await eventually(lambda: answered(agent.engine, run), "the run goes on")
            await asyncio.to_thread(apart.start)
            report = await agent.report(run)
            assert report.outcome == "recovered", report.not_done_because
            assert agent.events(change).count("applied") == 1
            assert revision(world, service) == before + 1
    finally:
        apart.kill()


async def answered(engine: Engine, id: str) -> bool:
    return any(item.kind == "answer" for item in await engine.items(id))


async def test_a_cluster_that_forbids_the_change_ends_in_a_report_that_says_so(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    known = world.kubeconfig.read_text()
    viewer = next(name for name in re.findall(r"name: (\S+)", known) if "viewer" in name)
    kubeconfig.write_text(known.replace("current-context: titanium", f"current-context: {viewer}"))
    async with agent_in(settings_of(tmp_path, world, KUBECTL_KUBECONFIG=str(kubeconfig))) as agent:
        report = await agent.report(await agent.start(service))
        assert (report.outcome, report.done) == ("failed", [])
        assert "Not allowed" in report.not_done_because
        assert agent.changes.waiting() == []


async def test_a_cluster_that_fails_once_is_asked_again_and_one_that_goes_on_failing_is_reported(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    async with agent_in(settings_of(tmp_path, world)) as agent:
        world.weather("500", method="PATCH")
        run = await agent.start(service)
        assert await agent.asked(run)
        await agent.engine.cancel(run)
        world.weather("500", method="PATCH", times=50)
        report = await agent.report(await agent.start(service, "run-2"))
        assert (report.outcome, report.done) == ("failed", [])
        assert "failed with 500" in report.not_done_because


async def test_an_approval_for_another_change_lets_nothing_pass(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    async with agent_in(settings_of(tmp_path, world)) as agent:
        from quarterdeck.agents.remediation.outfit import worn

        run, before = await agent.start(service), revision(world, service)
        change = await agent.asked(run)
        said = await worn().tools.call("kubectl", RESTART, {"deployment": OTHER})
        agent.approve(said.data["change_id"])
        again = await worn().tools.call("kubectl", RESTART, {"deployment": service})
        assert (again.data["status"], again.data["change_id"]) == ("approval_required", change)
        assert (await agent.engine.status(run)).state == "waiting"
        assert revision(world, service) == before
        await agent.engine.cancel(run)


async def test_an_object_that_changed_since_it_was_shown_is_asked_about_anew(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    async with agent_in(settings_of(tmp_path, world)) as agent:
        run, before = await agent.start(service), revision(world, service)
        old = await agent.asked(run)
        world.call(lambda inside: inside.cluster.change("Deployment", service, labelled))
        agent.approve(old)
        new = await agent.asked(run, but=old)
        assert revision(world, service) == before
        agent.approve(new)
        report = await agent.report(run)
        assert report.outcome == "recovered", report.not_done_because
        assert [done.change for done in report.done] == [new]
        assert agent.events(old) == ["requested", "granted"]
        assert revision(world, service) == before + 1


def labelled(deployment: dict[str, Any]) -> None:
    deployment["metadata"].setdefault("annotations", {})["who"] = "somebody else"


async def test_nobody_answers_in_time_and_the_run_ends_with_a_report(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    async with agent_in(settings_of(tmp_path, world, AGENTS_APPROVE_S="0.5")) as agent:
        before = revision(world, service)
        report = await agent.report(await agent.start(service))
        assert (report.outcome, report.done) == ("expired", [])
        assert revision(world, service) == before


async def test_a_run_that_is_cancelled_in_any_phase_gives_its_turn_back(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    async with agent_in(settings_of(tmp_path, world)) as agent:
        for number, phase in enumerate(("Looking for", "Reading the logs", "First cause", "Root cause", "May I?")):
            run = await agent.start(service, f"run-{number}")
            await eventually(lambda run=run, phase=phase: said(agent.engine, run, phase), phase)
            flow = await agent.engine.cancel(run)
            assert flow.state == "cancelled", phase
        run = await agent.start(service, "changes")
        agent.approve(await agent.asked(run))
        await eventually(lambda: said(agent.engine, run, "Watching"), "it watches")
        await agent.engine.cancel(run)
        lock(world, service)
        until(lambda: restarts(world, service) > 1, f"{service} suffers again", 30)
        last = await agent.start(service, "last")
        change = await agent.asked(last)
        agent.approve(change)
        assert (await agent.report(last)).outcome == "recovered"


async def said(engine: Engine, id: str, words: str) -> bool:
    return any(words in item.text for item in await engine.items(id))


async def eventually_acting(agent: Agent, service: str) -> str:
    """Runs over the service until one asks for a change: a fault needs a moment to show."""
    for number in range(20):
        run = await agent.start(service, id=f"run-{number}")
        flow = await eventually(lambda run=run: halted(agent.engine, run), "it asks or ends")
        if not flow.ended:
            return run
        await asyncio.sleep(0.5)
    raise AssertionError(f"nothing was ever asked for about {service}")


async def halted(engine: Engine, id: str) -> Flow | None:
    flow = await engine.status(id)
    return flow if flow.ended or flow.question is not None else None


async def test_a_restart_that_does_not_help_is_escalated(world: PracticeWorld, service: str, tmp_path: Path) -> None:
    world.call(lambda inside: inside._cures.clear())  # from now on it stays locked whatever is done
    async with agent_in(settings_of(tmp_path, world, AGENTS_HEALTHY_S="3")) as agent:
        run = await agent.start(service)
        agent.approve(await agent.asked(run))
        report = await agent.report(run)
        assert (report.outcome, len(report.done)) == ("escalated", 1)
        assert not report.done[0].undone


async def test_a_restart_that_makes_things_worse_is_escalated_and_nothing_else_is_rolled_back(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    world.call(lambda inside: inside._cures.clear())
    async with agent_in(settings_of(tmp_path, world, ALLOW.format(tool="*"), AGENTS_HEALTHY_S="4")) as agent:
        run = await agent.start(service)
        await eventually(lambda: said(agent.engine, run, "Watching"), "it watches")
        world.call(lambda inside: inside.behave("blog-service", Behaviour(dies=("panic: gone",), lives=0.1)))
        report = await agent.report(run)
        assert (report.outcome, [done.tool for done in report.done]) == ("escalated", [RESTART])
        assert not report.done[0].undone


@pytest.mark.parametrize(
    ("fault", "victim", "tool"),
    [("surge", "load-balancer", "scale_deployment"), ("bad-rollout", "auth-service", "rollback_deployment")],
)
async def test_a_change_that_makes_things_worse_is_taken_back_with_a_yes_of_its_own(
    fault: str, victim: str, tool: str, tmp_path: Path
) -> None:
    with practice_world(speed=20) as world:
        async with agent_in(settings_of(tmp_path, world, AGENTS_HEALTHY_S="6", AGENTS_STEADY_S="4")) as agent:
            world.inject(fault)
            run = await eventually_acting(agent, victim)
            first = await agent.asked(run)
            agent.approve(first)
            await eventually(lambda: said(agent.engine, run, "Watching"), "it watches")
            world.call(lambda inside: inside.behave(victim, Behaviour(dies=("panic: gone",), lives=0.1)))
            agent.approve(await agent.asked(run, but=first))
            report = await agent.report(run)
            assert (report.outcome, [done.tool for done in report.done]) == ("escalated", [tool, tool])
            assert report.done[0].undone
            assert report.done[0].arguments != report.done[1].arguments
            assert "taken back" in report.not_done_because


async def test_what_policy_allows_runs_without_asking_and_what_it_denies_is_reported(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    async with agent_in(settings_of(tmp_path / "no", world, ALLOW.format(tool=RESTART).replace("allow", "deny"))) as no:
        before = revision(world, service)
        report = await no.report(await no.start(service))
        assert (report.outcome, report.done) == ("refused", [])
        assert "policy" in report.not_done_because
        assert revision(world, service) == before
    async with agent_in(settings_of(tmp_path / "yes", world, ALLOW.format(tool=RESTART))) as yes:
        run = await yes.start(service)
        report = await yes.report(run)
        assert (report.outcome, report.done[0].granted_by) == ("recovered", "policy rule 1")
        assert not any(item.kind == "question" for item in await yes.engine.items(run))


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    with agent_process(tmp_path, world, AGENTS_STEADY_S="0.3") as agent:
        id = agent.post("/agent/diagnose", {"service": service}).json()["id"]
        change = agent.asked(id)["change_id"]
        _, most = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        agent.approve(change)
        refused = agent.post("/agent/diagnose", {"service": service})
        assert refused.status_code == 400
        assert "cannot be stored" in refused.json()["error"]
        assert agent.get("/healthz").text == "ok\n"
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (most, most))
        report = agent.ended(id)
        assert report["outcome"] == "recovered", report["not_done_because"]
        events = [line["event"] for line in audit.entries(agent.changes.trail) if line.get("change") == change]
        assert events.count("started") == events.count("applied") == 1
    for path in tmp_path.glob("*.db"):
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), path


async def test_a_clock_that_jumps_takes_no_turn_and_loses_no_answer(
    world: PracticeWorld, service: str, tmp_path: Path
) -> None:
    async with agent_in(settings_of(tmp_path, world)) as agent:
        run = await agent.start(service)
        change = await agent.asked(run)
        now = agent.engine.database._names["now"]
        agent.engine.database._names["now"] = f"({now} + 86400000)"  # the database's clock, a day on
        second = await agent.report(await agent.start(service, "run-2"))
        assert "already acts" in second.not_done_because
        agent.approve(change)
        assert (await agent.report(run)).outcome == "recovered"


def test_a_clock_that_jumps_makes_no_alert_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notification = parse(b'{"groupKey": "g", "alerts": [{"labels": {"alertname": "Down"}, "fingerprint": "1"}]}')
    first = Alerts(tmp_path).take(notification, "t-", set())
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert Alerts(tmp_path).take(notification, "t-", {first.task}).task == first.task
