"""The poll loop: look every now and then, and start a run when something is wrong that no run has dealt with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from quarterdeck.agents.remediation import names, rules
from quarterdeck.agents.remediation.collect import Collector
from quarterdeck.agents.remediation.flow import NAME
from quarterdeck.agents.remediation.models import Cause
from quarterdeck.agents.remediation.outfit import worn
from quarterdeck.agents.runtime import tasks
from quarterdeck.agents.runtime.handler import Engine
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import CHANGE, READ

log = logging.getLogger(__name__)
AGAIN_S = 1800.0
"""After a run on a trouble ended, the same trouble starts another one only after this time, or once it was gone."""
CALLER = "watch"
Trouble = tuple[str, str]


async def watch(
    engine: Engine,
    every_s: float,
    started: Callable[[str, Cause], Awaitable[None]],
    *,
    service: str = "",
    act: bool = True,
    looked: Callable[[str], None] = lambda words: None,
) -> None:
    """Look until cancelled. `started` is told of each run that begins."""
    dealt: dict[Trouble, float] = {}
    while True:
        begun = time.monotonic()
        try:
            found = await look(service)
        except Refusal as error:
            log.warning("could not look: %s", error)
            found = None
        if found is not None:
            looked(found[0].summary if found else "nothing is wrong")
            present = {(cause.kind, cause.service) for cause in found}
            dealt = {trouble: at for trouble, at in dealt.items() if trouble in present}
            fresh = [c for c in found if time.monotonic() - dealt.get((c.kind, c.service), -AGAIN_S) >= AGAIN_S]
            if fresh:
                dealt |= dict.fromkeys(present, time.monotonic())
                await started(await start(engine, fresh[0], act=act), fresh[0])
        await asyncio.sleep(max(0.0, every_s - (time.monotonic() - begun)))


async def look(service: str) -> list[Cause]:
    """The causes that show at first sight; only those of one service, if it is named."""

    async def call(server: str, tool: str, arguments: dict[str, Any]) -> Any:
        return await worn().tools.call(server, tool, arguments)

    diagnosis = rules.judge(await Collector(call).detect(service or None))
    if diagnosis.healthy:
        return []
    causes = [cause for cause in diagnosis.causes if cause.service]
    if service:
        causes = [c for c in causes if names.same(service, [c.service, *c.affects])]
    return causes


async def start(engine: Engine, cause: Cause, *, act: bool) -> str:
    own = f"{cause.kind} {cause.service} {time.time():.3f}"
    message = {"messageId": own, "role": "ROLE_USER", "parts": [{"text": cause.summary}]}
    argument = {
        "text": cause.summary,
        "service": cause.service,
        "act": act,
        "message": message,
        "context": "watch",
        "caller": CALLER,
        "scopes": [READ, CHANGE],
    }
    return await engine.start(NAME, argument, id=f"{tasks.beginning(CALLER, 'watch')}{tasks.mark(own)}")
