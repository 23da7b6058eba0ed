"""Collecting: bounded, and never stopped by a tool that fails."""

from __future__ import annotations

import asyncio
from typing import Any

from quarterdeck.agents.remediation.collect import AT_ONCE, MOST_CALLS, Collector, Said


class Tools:
    """Stand-ins for servers whose every service is sick: what would be asked without bounds is a lot."""

    def __init__(self, services: int = 60) -> None:
        self.names = [f"shop{n}-service" for n in range(services)]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.running = self.most = 0

    async def __call__(self, server: str, tool: str, arguments: dict[str, Any]) -> Said:
        self.calls.append((f"{server}.{tool}", arguments))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if tool == "list_events":
            raise RuntimeError("the API server\n answered 503")
        return Said("told", self.answer(tool))

    def answer(self, tool: str) -> dict[str, Any]:
        if tool == "find_problems":
            row = {"severity": "high", "reason": "CrashLoopBackOff", "detail": "keeps ending"}
            return {"problems": [{**row, "what": f"Deployment {name}"} for name in self.names]}
        if tool == "list_pods":
            pods = [{"name": f"{n}-5fh6jc44dj-bbbbb", "ready": "0/1", "status": "Error"} for n in self.names]
            return {"total": len(pods), "pods": pods}
        return {}


async def test_an_incident_of_many_services_takes_a_bounded_number_of_calls_a_few_at_once() -> None:
    tools = Tools()
    evidence = await Collector(tools).everything()
    assert len(tools.calls) == len(evidence) <= MOST_CALLS
    assert 1 < tools.most <= AT_ONCE


async def test_evidence_is_numbered_through_all_phases_and_nothing_is_asked_twice() -> None:
    tools = Tools(2)
    collector = Collector(tools)
    seen = await collector.detect()
    seen += await collector.logs(seen)
    seen += await collector.metrics()
    seen += await collector.surroundings(seen)
    seen += await collector.detect()
    assert [one.id for one in seen] == [f"e{n}" for n in range(1, len(seen) + 1)]
    assert len({repr(call) for call in tools.calls}) == len(tools.calls)


async def test_a_tool_that_fails_becomes_evidence_that_says_so() -> None:
    evidence = await Collector(Tools(1)).detect()
    (failed,) = [one for one in evidence if one.failed]
    assert failed.tool == "kubectl.list_events"
    assert failed.failed == "the API server answered 503"
    assert all(one.text == "told" for one in evidence if one is not failed)


async def test_the_service_that_an_alert_names_is_looked_at_first() -> None:
    tools = Tools(20)
    collector = Collector(tools)
    seen = await collector.detect("shop17_service")
    await collector.logs(seen, "shop17_service")
    asked = [arguments["service"] for tool, arguments in tools.calls if tool == "logs.summarize_logs"]
    assert asked[0] == "shop17-service"
