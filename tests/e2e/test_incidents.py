"""Incidents of every class in the practice world, collected over MCP and judged by rules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from fastmcp import Client

from quarterdeck.agents.remediation import rules
from quarterdeck.agents.remediation.collect import MOST_CALLS, Call, Collector, Said
from quarterdeck.agents.remediation.models import Diagnosis, Evidence, Kind
from quarterdeck.keel.settings import Settings, load
from quarterdeck.kubectl.server import create_server as kubectl_server
from quarterdeck.logs.server import create_server as logs_server
from quarterdeck.stats.server import create_server as stats_server
from quarterdeck.titanium.story import PracticeWorld, practice_world

_spec = importlib.util.spec_from_file_location("incidents", Path(__file__).with_name("incidents.py"))
assert _spec is not None and _spec.loader is not None
incidents = importlib.util.module_from_spec(_spec)
sys.modules["incidents"] = incidents
_spec.loader.exec_module(incidents)
Incident = incidents.Incident


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=30) as started:
        yield started


@pytest.fixture
def settings(world: PracticeWorld, tmp_path: Path) -> Settings:
    return load(
        world.environment()
        | {"QUARTERDECK_HOME": str(tmp_path / "home"), "QUARTERDECK_CONFIG": "", "HOME": str(tmp_path)}
    )


@asynccontextmanager
async def tools(settings: Settings) -> AsyncIterator[Call]:
    """The real servers, called over MCP."""
    async with AsyncExitStack() as stack:
        clients: dict[str, Client[Any]] = {
            name: await stack.enter_async_context(Client(create(settings)))
            for name, create in (("stats", stats_server), ("kubectl", kubectl_server), ("logs", logs_server))
        }

        async def call(server: str, tool: str, arguments: dict[str, Any]) -> Said:
            result = await clients[server].call_tool(tool, arguments)
            return Said(getattr(result.content[0], "text", ""), result.structured_content or {})

        yield call


def without(call: Call, servers: tuple[str, ...]) -> Call:
    async def cut(server: str, tool: str, arguments: dict[str, Any]) -> Said:
        if server in servers:
            raise ConnectionError(f"{server} does not answer")
        return await call(server, tool, arguments)

    return cut


async def look_at(world: PracticeWorld, call: Call, incident: Incident) -> tuple[Diagnosis, list[Evidence]]:
    world.renew()
    world.call(incident.make)
    world.wait_until(incident.seen, f"it shows: {incident.name}", 20)
    evidence = await Collector(without(call, incident.blind)).everything()
    return rules.judge(evidence), evidence


def verdict(incident: Incident, found: Diagnosis) -> tuple[str, str]:
    """(what is wrong with the judgement, what harm its action would do); both empty when it is right."""
    harm = ""
    if found.action is not None:
        asked = (found.action.tool, str(found.action.arguments.get("deployment")))
        if asked not in incident.may:
            harm = f"{asked[0]}({asked[1]})"
    if incident.kinds == ("healthy",):
        return "" if found.healthy else f"not healthy: {_say(found)}", harm
    root = found.root
    if root is None:
        return "no cause", harm
    if root.kind not in incident.kinds or root.service not in (incident.service, *incident.services):
        return _say(found), harm
    if incident.also and not any((c.kind, c.service) == incident.also for c in found.causes):
        return f"the second fault is missed: {_say(found)}", harm
    return "", harm


def _say(found: Diagnosis) -> str:
    return "; ".join(f"{c.kind} of {c.service} {c.confidence:.2f}" for c in found.causes) or "nothing"


async def score(world: PracticeWorld, settings: Settings, chosen: list[Incident]) -> None:
    misses: list[str] = []
    harms: list[str] = []
    async with tools(settings) as call:
        for incident in chosen:
            found, evidence = await look_at(world, call, incident)
            wrong, harm = verdict(incident, found)
            assert len(evidence) <= MOST_CALLS
            known = {one.id for one in evidence}
            assert all(cause.cites and set(cause.cites) <= known for cause in found.causes), incident.name
            if wrong:
                misses.append(f"{incident.name:<52} wanted {'/'.join(incident.kinds)} of {incident.service}: {wrong}")
            if harm:
                harms.append(f"{incident.name}: {harm}")
    right = len(chosen) - len(misses)
    print(f"\n{right} of {len(chosen)} right ({right / len(chosen):.0%}), {len(harms)} harmful")
    print("\n".join(["missed:", *misses, "harmful:", *harms]))
    assert not harms
    assert right >= 0.9 * len(chosen), misses


def test_every_class_has_its_incident() -> None:
    named = {kind for incident in incidents.INCIDENTS for kind in incident.kinds}
    assert named >= set(get_args(Kind)) | {"healthy"}
    assert len(incidents.INCIDENTS) >= 60
    assert len({incident.name for incident in incidents.INCIDENTS}) == len(incidents.INCIDENTS)


@pytest.mark.timeout(150)
async def test_an_incident_of_each_class_is_judged_rightly_and_no_action_harms(
    world: PracticeWorld, settings: Settings
) -> None:
    await score(world, settings, incidents.one_of_each())


@pytest.mark.bench
@pytest.mark.timeout(900)
async def test_all_incidents_are_judged_rightly_and_no_action_harms(world: PracticeWorld, settings: Settings) -> None:
    await score(world, settings, list(incidents.INCIDENTS))
