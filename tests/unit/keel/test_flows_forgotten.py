"""What ended long ago is deleted by itself; what goes on is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from quarterdeck.keel import flows
from quarterdeck.keel.settings import FlowsSettings


@flows.flow("test ends")
async def ends(argument: dict[str, Any]) -> dict[str, Any]:
    return {"said": await flows.step("say", asyncio.sleep, 0, "done")}


@flows.flow("test waits")
async def waits(argument: dict[str, Any]) -> dict[str, Any]:
    return {"answer": await flows.ask("Well?")}


async def test_flows_that_ended_long_ago_are_forgotten_by_themselves(tmp_path: Path) -> None:
    async with flows.engine(FlowsSettings(), tmp_path) as engine:
        await engine.start("test ends", {}, id="long-ago")
        await engine.result("long-ago")
        await engine.start("test waits", {}, id="waits-long")
        assert {flow.id for flow in await engine.list()} == {"long-ago", "waits-long"}
    async with flows.engine(FlowsSettings(keep_days=1e-9), tmp_path) as engine, asyncio.timeout(20):
        while any(flow.id == "long-ago" for flow in await engine.list()):  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.02)
        assert [flow.id for flow in await engine.list()] == ["waits-long"]
