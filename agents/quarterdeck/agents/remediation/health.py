"""Is it well again? What is looked at before a change and after it, and what counts as worse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import BaseModel

from quarterdeck.agents.remediation import names
from quarterdeck.agents.remediation.models import Action
from quarterdeck.agents.remediation.report import Figure
from quarterdeck.agents.runtime.toolbox import Said
from quarterdeck.keel.errors import Refusal

Call = Callable[[str, str, dict[str, Any]], Awaitable[Said]]
EVERY_S = 1.0
SEVERE = {"high": 3, "medium": 2, "low": 1}


class State(BaseModel):
    """How the system stands at one moment, as far as it could be asked."""

    offline: list[str] = []
    ready: int | None = None
    desired: int | None = None
    rollout: str = ""
    revision: int | None = None
    problems: dict[str, int] = {}
    """What is unhealthy, and how bad it is (3 worst)."""
    requests_per_second: float | None = None
    success_rate_percent: float | None = None
    avg_response_time_ms: float | None = None
    unseen: list[str] = []
    """What could not be asked."""


async def look(call: Call, action: Action) -> State:
    """One look at the system and at what the action touches."""
    state = State()
    deployment = str(action.arguments.get("deployment") or "")
    place = {"namespace": action.arguments["namespace"]} if action.arguments.get("namespace") else {}

    async def ask(server: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            return (await call(server, tool, arguments)).data
        except Refusal as error:
            state.unseen.append(f"{server}.{tool}: {error}"[:200])
            return {}

    stats, problems, rollout, history = await asyncio.gather(
        ask("stats", "get_system_stats", {}),
        ask("kubectl", "find_problems", place),
        ask("kubectl", "rollout_status", {"deployment": deployment, **place}) if deployment else _nothing(),
        ask("kubectl", "rollout_history", {"deployment": deployment, **place}) if deployment else _nothing(),
    )
    services = stats.get("services") or []
    state.offline = sorted(s["name"] for s in services if s.get("status") == "offline")
    for name, value in (stats.get("traffic") or {}).items():
        if name in State.model_fields and isinstance(value, int | float):
            setattr(state, name, float(value))
    state.revision = next((one["revision"] for one in history.get("revisions") or [] if one.get("current")), None)
    for problem in problems.get("problems") or []:
        state.problems[str(problem.get("what"))] = SEVERE.get(str(problem.get("severity")), 1)
    if rollout:
        state.ready, state.desired, state.rollout = rollout.get("ready"), rollout.get("desired"), rollout["state"]
    return state


async def _nothing() -> dict[str, Any]:
    return {}


def well(state: State, service: str) -> str:
    """Why the service is not well; empty when it is. What could not be asked is not taken for well."""
    if state.unseen:
        return f"could not look: {state.unseen[0]}"
    if names.same(service, state.offline):
        return f"{service} is offline"
    if state.rollout and state.rollout != "complete":
        return f"its rollout is {state.rollout} ({state.ready} of {state.desired} ready)"
    for what, severity in state.problems.items():
        if severity >= SEVERE["medium"] and _about(what, service):
            return f"still unhealthy: {what}"
    return ""


def worse(before: State, after: State, service: str, affects: Sequence[str] = ()) -> str:
    """What the change made worse: for the service itself and for those who need it. Whatever else happens meanwhile is
    not laid at its door."""
    concerned = [service, *affects]
    fresh = [name for name in after.offline if name not in before.offline and names.same(name, concerned)]
    if fresh:
        return f"{', '.join(fresh)} went offline"
    if (before.ready or 0) > (after.ready or 0) and after.ready is not None:
        return f"{after.ready} of {after.desired} pods are ready, {before.ready} were before"
    for what, severity in after.problems.items():
        if severity == SEVERE["high"] and before.problems.get(what, 0) < severity:
            if any(_about(what, one) for one in affects):
                return f"newly unhealthy: {what}"
    return ""


def _about(what: str, service: str) -> bool:
    words = what.replace("/", " ").split()
    return any(names.same(names.stem(word)[0], [service]) or names.same(word, [service]) for word in words)


async def watch(
    call: Call,
    action: Action,
    service: str,
    affects: Sequence[str],
    before: State,
    healthy_s: float,
    steady_s: float,
    tell: Callable[[str], Awaitable[None]],
) -> dict[str, Any]:
    """Look until the service stays well for `steady_s`, at most `healthy_s` from the start for it to become so."""
    started = time.monotonic()
    well_since: float | None = None
    said = ""
    while True:
        state = await look(call, action)
        problem = well(state, service)
        now = time.monotonic()
        if problem != said:
            said = problem
            await tell(problem or f"{service} is well; watching whether it stays so")
        well_since = None if problem else well_since or now
        if well_since is not None and now - well_since >= steady_s:
            return {"healthy": True, "why": "", "state": state.model_dump(), "worse": ""}
        if well_since is None and now - started > healthy_s:
            return {
                "healthy": False,
                "why": problem,
                "state": state.model_dump(),
                "worse": worse(before, state, service, affects),
            }
        await asyncio.sleep(min(EVERY_S, max(steady_s / 4, 0.05)))


def figures(before: State, after: State) -> list[Figure]:
    """Before and after, for the report."""
    rows: list[tuple[str, float | str | None, float | str | None, str]] = [
        ("requests", before.requests_per_second, after.requests_per_second, "per second"),
        ("success rate", before.success_rate_percent, after.success_rate_percent, "%"),
        ("response time", before.avg_response_time_ms, after.avg_response_time_ms, "ms"),
        ("ready pods", before.ready, after.ready, ""),
        ("offline", ", ".join(before.offline) or "none", ", ".join(after.offline) or "none", ""),
    ]
    return [
        Figure(name=name, before=b, after=a, unit=unit) for name, b, a, unit in rows if b is not None or a is not None
    ]
