"""Runs flows for test_flows_survive: `flow_worker.py DATABASE HOME HOST DEAD_S`, then lines `ID ARGUMENT`."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from quarterdeck.keel import flowheart, flowowners, flows

DATABASE, HOME, HOST, DEAD_S = sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
if HOST:  # as if it ran on another machine, where process ids say nothing
    flowheart.this_host = flowowners.this_host = lambda: HOST


def happened(what: str) -> None:
    """One line that no other process can break into."""
    line = f"{flows.flow_id()} {what} {flows.step_key()} {os.getpid()}\n"
    handle = os.open(HOME / "happened", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


async def effect(what: str) -> None:
    happened(what)


async def gated(id: str) -> None:
    happened("two-begins")
    while not (HOME / f"gate-{id}").exists():  # noqa: ASYNC110 (other processes open it)
        await asyncio.sleep(0.02)
    happened("two")


@flows.flow("survivor")
async def survivor(argument: dict[str, Any]) -> dict[str, Any]:
    await flows.progress("on its way")
    await flows.step("one", effect, "one")
    await flows.step("two", gated, flows.flow_id(), timeout_s=60)
    answer = await flows.ask("Go on?", timeout_s=60) if argument.get("asks") else None
    await flows.step("three", effect, "three")
    return {"answer": answer, "by": os.getpid()}


async def main() -> None:
    async with flows.engine(DATABASE, HOME, executor=HOST or "here", beat_s=0.25, dead_s=DEAD_S) as engine:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            id, _, argument = line.strip().partition(" ")
            await engine.start("survivor", json.loads(argument), id=id)


if __name__ == "__main__":
    asyncio.run(main())
