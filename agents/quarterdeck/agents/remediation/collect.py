"""Collect the evidence of an incident, phase by phase, through the tools of the ops servers.

    collector = Collector(call)
    seen = await collector.detect()            # what is offline, what is unhealthy; about="blog" names one more
    seen += await collector.logs(seen)         # errors and kinds of lines of the services that look bad
    seen += await collector.metrics()          # traffic now and before, memory and CPU
    seen += await collector.surroundings(seen) # sick pods, rollouts, what the sick ones need, nodes, quotas …
    rules.judge(seen)

A tool that cannot answer becomes evidence that says so. One collector serves one incident: it numbers the evidence
and stops at MOST_CALLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from quarterdeck.agents.remediation.graph import complaints_of
from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.reader import scene_of
from quarterdeck.agents.remediation.scene import Scene
from quarterdeck.agents.runtime.toolbox import Said

MOST_CALLS = 40
AT_ONCE = 4
CALL_S = 30.0
LONGEST_TEXT = 8_000


Call = Callable[[str, str, dict[str, Any]], Awaitable[Said]]
"""Calls tool T of server S with arguments; raises when the tool refuses or cannot be reached."""
Question = tuple[str, str, dict[str, Any]]

RATE = "sum(rate(http_requests_total[1m]))"


class Collector:
    def __init__(self, call: Call, most: int = MOST_CALLS, first: int = 1) -> None:
        self._call, self._left, self._number = call, most, first
        self._asked: set[str] = set()

    async def detect(self, about: str | None = None) -> list[Evidence]:
        """What is wrong at first sight. `about` is the service that an alert or a person named, if any."""
        questions: list[Question] = [
            ("stats", "get_system_stats", {}),
            ("kubectl", "find_problems", {}),
            ("kubectl", "list_pods", {}),
            ("kubectl", "list_resources", {"kind": "deployments"}),
            ("kubectl", "list_events", {"warnings_only": True}),
            ("kubectl", "list_resources", {"kind": "services"}),
        ]
        if about:
            questions.append(("stats", "get_service_status", {"service_name": about}))
        return await self._ask(questions)

    async def logs(self, seen: Sequence[Evidence], about: str | None = None) -> list[Evidence]:
        """The errors of all services, and everything that the suspicious ones say."""
        found = await self._ask([("logs", "tail_errors", {"service": "all", "limit": 20})])
        suspects = _suspects(scene_of([*seen, *found]), about)[:5]
        questions: list[Question] = []
        for service in suspects:
            questions.append(("logs", "tail_errors", {"service": service, "limit": 10}))
            questions.append(("logs", "summarize_logs", {"service": service}))
        questions += [("logs", "get_service_logs", {"service": service, "tail": 40}) for service in suspects[:2]]
        return found + await self._ask(questions)

    async def metrics(self) -> list[Evidence]:
        """Traffic and response times now and before, and what pods use."""
        return await self._ask(
            [
                ("stats", "get_traffic_metrics", {}),
                ("stats", "get_traffic_history", {"since": "30m"}),
                ("stats", "query_metrics_range", {"query": RATE, "since": "15m", "step": "30s"}),
                ("kubectl", "top_pods", {}),
            ]
        )

    async def surroundings(self, seen: Sequence[Evidence], about: str | None = None) -> list[Evidence]:
        """What tells a root cause from what follows from it."""
        scene = scene_of(seen)
        needed = [service for service in complaints_of(scene) if service in scene.workloads]
        sick = _suspects(scene, about)
        kinds = ("nodes", "horizontalpodautoscalers", "resourcequotas", "endpoints")
        questions: list[Question] = [("kubectl", "list_resources", {"kind": kind}) for kind in kinds]
        for service in sick[:5]:
            questions += [
                ("kubectl", "describe_pod", {"pod_name": pod.name}) for pod in scene.pods_of(service, sick=True)[:1]
            ]
        rolled = list(dict.fromkeys(s for s in (*sick[:4], *needed[:2]) if s in scene.workloads))
        for service in rolled[:4]:
            questions.append(("kubectl", "rollout_history", {"deployment": service}))
            questions.append(("kubectl", "rollout_status", {"deployment": service}))
        questions += [
            ("logs", "tail_errors", {"service": service, "limit": 10}) for service in needed[:2] if service not in sick
        ]
        events = [service for service in needed[:2] if scene.workloads[service].wanted == 0]
        questions += [("kubectl", "list_events", {"name": service}) for service in events]
        return await self._ask(questions)

    async def everything(self, about: str | None = None) -> list[Evidence]:
        """All phases, one after another: for those who need no stop between them."""
        seen = await self.detect(about)
        seen += await self.logs(seen, about)
        seen += await self.metrics()
        seen += await self.surroundings(seen, about)
        return seen

    async def one(self, server: str, tool: str, arguments: dict[str, Any]) -> Evidence:
        """One more question, of somebody's own choice."""
        self._number += 1
        return await self._evidence(self._number - 1, (server, tool, arguments))

    async def _ask(self, questions: Sequence[Question]) -> list[Evidence]:
        """Ask them, a few at once; what was asked before and what is over the limit is left out."""
        fresh: list[Question] = []
        for question in questions:
            if (key := repr(question)) not in self._asked and self._left > 0:
                self._asked.add(key)
                self._left -= 1
                fresh.append(question)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, question: Question) -> Evidence:
            async with gate:
                return await self._evidence(number, question)

        numbers = range(self._number, self._number + len(fresh))
        self._number += len(fresh)
        return list(await asyncio.gather(*map(one, numbers, fresh)))

    async def _evidence(self, number: int, question: Question) -> Evidence:
        server, tool, arguments = question
        text, data, failed = "", {}, ""
        try:
            async with asyncio.timeout(CALL_S):
                said = await self._call(server, tool, arguments)
            text, data = said.text[:LONGEST_TEXT], said.data
        except TimeoutError:
            failed = f"no answer within {CALL_S:g} s"
        except Exception as error:  # whatever a tool server does, the incident still has to be judged
            failed = " ".join(str(error).split())[:300] or type(error).__name__
        return Evidence(
            id=f"e{number}",
            tool=f"{server}.{tool}",
            arguments=arguments,
            taken=datetime.now(UTC),
            text=text,
            data=data,
            failed=failed,
        )


def _suspects(scene: Scene, about: str | None) -> list[str]:
    """Services worth a closer look, the worst first: named, sick, offline, complained about, complaining."""
    named = [scene.resolve(about) or about] if about else []
    complaining = sorted(scene.complaining(), key=lambda pair: -pair[1])
    return list(
        dict.fromkeys(
            [*named, *scene.sick(), *scene.offline, *complaints_of(scene), *(service for service, _ in complaining)]
        )
    )
