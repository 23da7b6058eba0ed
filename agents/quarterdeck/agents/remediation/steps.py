"""The steps of the remediation flow: each talks to the world, takes JSON and gives JSON."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from quarterdeck.agents.remediation import escalation, health, names, turns
from quarterdeck.agents.remediation.collect import MOST_CALLS, Collector
from quarterdeck.agents.remediation.judgement import judge_with_model
from quarterdeck.agents.remediation.models import Action, Evidence
from quarterdeck.agents.remediation.outfit import worn
from quarterdeck.agents.remediation.reader import scene_of
from quarterdeck.agents.remediation.report import Report
from quarterdeck.agents.runtime.toolbox import Said, Unreachable
from quarterdeck.keel import flows
from quarterdeck.keel.answers import one_line
from quarterdeck.keel.errors import Refusal

Json = dict[str, Any]


async def detect(argument: Json) -> Json:
    about = await _named(argument)
    outfit = worn()  # recorded with the step: what decides the course must be the same when the flow is replayed
    chosen = {"model": outfit.model is not None, "read_only": outfit.settings.read_only}
    seen = await Collector(_call).detect(about)
    return {"about": about, "evidence": dumped(seen), "unknown": _unknown(argument, seen), **chosen}


def _unknown(argument: Json, seen: list[Evidence]) -> str:
    """A sentence if a service was named that is not there: a mistyped name must not get an all-clear."""
    service, scene = argument.get("service"), scene_of(seen)
    known = sorted({*scene.known, *scene.stats, *scene.nodes})
    if not service or not known or scene.resolve(str(service)) or names.same(str(service), known):
        return ""
    return f"There is no service {one_line(str(service))[:80]!r} here. There are: {', '.join(known[:30])}."


async def _named(argument: Json) -> str | None:
    """The service that an alert or a person speaks of."""
    if argument.get("service"):
        return one_line(str(argument["service"]))[:100]
    text = str(argument.get("text") or "").lower()
    labels = (argument.get("alert") or {}).get("labels") or {}
    for label in ("service", "deployment", "app", "job", "pod"):
        if isinstance(labels.get(label), str):
            return one_line(labels[label])[:100]
    if not text:
        return None
    try:
        listed = (await _call("stats", "list_services", {})).data.get("services") or []
    except Refusal:
        return None
    spelled = text.replace("-", "_")
    return next((s["name"] for s in listed if s["name"].lower().replace("-", "_") in spelled), None)


async def logs(evidence: list[Json], about: str | None) -> list[Json]:
    seen = evidence_of(evidence)
    return dumped(await _collector(len(seen)).logs(seen, about))


async def metrics(seen: int) -> list[Json]:
    return dumped(await _collector(seen).metrics())


async def surroundings(evidence: list[Json], about: str | None) -> list[Json]:
    seen = evidence_of(evidence)
    return dumped(await _collector(len(seen)).surroundings(seen, about))


async def ask_model(evidence: list[Json]) -> Json:
    outfit = worn()
    assert outfit.model is not None
    tools = {}
    for server in outfit.tools.servers:
        try:
            tools[server] = await outfit.tools.tools(server)
        except Refusal:
            continue
    collector = Collector(_call, first=10_000)

    judged = await judge_with_model(outfit.model, evidence_of(evidence), tools, collector.one)
    return judged.model_dump(mode="json")


async def take_turn(target: str, flow: str) -> str:
    home = worn().settings.home
    holder = await asyncio.to_thread(turns.take, home, target, flow)
    if holder != flow and await flows.over(holder):  # cancelled, or failed: it could not give it back
        await asyncio.to_thread(turns.give_back, home, holder)
        holder = await asyncio.to_thread(turns.take, home, target, flow)
    return holder


async def look(action: Json) -> Json:
    return (await health.look(_call, Action.model_validate(action))).model_dump()


async def change(action: Json) -> Json:
    wanted = Action.model_validate(action)
    try:
        said = await worn().tools.call("kubectl", wanted.tool, wanted.arguments, key=flows.step_key(), timeout_s=800)
    except Unreachable:  # the call may have arrived: the same call again, under the same key, tells
        raise
    except Refusal as error:
        return {"status": "refused", "summary": "", "next": str(error)}
    return said.data


async def is_ours(change: str) -> bool:
    try:
        await asyncio.to_thread(worn().changes.get, change)
    except Refusal:
        return False
    return True


async def withdraw(change: str) -> bool:
    try:
        await asyncio.to_thread(worn().changes.withdraw, change, "its run ended without it")
    except Refusal:  # it is in another ledger, where it expires
        return False
    return True


async def granted(change: str) -> Json:
    now = datetime.now(UTC).isoformat()
    try:
        pending = await asyncio.to_thread(worn().changes.get, change)
    except Refusal:
        return {"by": "recorded by the server that did it", "at": now}
    return {"by": pending.granted_by, "at": now}


async def verify(action: Json, service: str, affects: list[str], before: Json) -> Json:
    settings = worn().settings.agents
    return await health.watch(
        _call,
        Action.model_validate(action),
        service,
        affects,
        health.State.model_validate(before),
        settings.healthy_s,
        settings.steady_s,
        flows.progress,
    )


async def save(report: Json) -> Json:
    outfit = worn()

    def save() -> Report:
        made = Report.model_validate(report)
        made.similar = outfit.reports.similar(made)
        saved = outfit.reports.save(made)
        turns.give_back(outfit.settings.home, made.task)
        return saved

    return (await asyncio.to_thread(save)).model_dump(mode="json")


async def escalate(report: Json) -> bool:
    return await escalation.tell(worn().settings, Report.model_validate(report))


async def _call(server: str, tool: str, arguments: Json) -> Said:
    return await worn().tools.call(server, tool, arguments)


def _collector(seen: int) -> Collector:
    return Collector(_call, most=max(0, MOST_CALLS - seen), first=seen + 1)


def evidence_of(found: list[Json]) -> list[Evidence]:
    return [Evidence.model_validate(one) for one in found]


def dumped(evidence: list[Evidence]) -> list[Json]:
    return [one.model_dump(mode="json") for one in evidence]
