"""A process that serves a small agent on durable flows: `small_agent.py HOME [PUSH_ORIGIN …]`. Prints its address.

`work` waits for the file HOME/gate-ID in a step; `ask` puts a question. What steps did stands in HOME/happened.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import uvicorn

from quarterdeck.agents.runtime import push, pushes
from quarterdeck.agents.runtime.agent import Agent, Skill, text_of
from quarterdeck.agents.runtime.app import create_app
from quarterdeck.keel import flows
from quarterdeck.keel.settings import AgentsSettings, Settings

HOME = Path(sys.argv[1])


async def happened(what: str) -> None:
    """One line that no other process can break into."""
    handle = os.open(HOME / "happened", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{flows.flow_id()} {what}\n".encode())
    os.close(handle)


async def gate() -> None:
    await happened("waits")
    while not (HOME / f"gate-{flows.flow_id()}").exists():  # noqa: ASYNC110  the test opens it
        await asyncio.sleep(0.02)


@flows.flow("test.small")
async def small(argument: dict[str, Any]) -> dict[str, Any]:
    await flows.progress("begun", 0.1)
    await flows.step("first", happened, "first")
    said = ""
    if argument["text"] == "ask":
        answer = await flows.ask("Which colour?", timeout_s=60)
        said = answer["text"] if answer else "nothing"
    else:
        await flows.step("gate", gate, timeout_s=60)
    await flows.step("last", happened, "last")
    await flows.progress("nearly done", 0.9)
    return {"text": f"done {said}".strip(), "artifacts": [{"name": "page", "text": "# Done"}]}


AGENT = Agent(
    name="small",
    title="Small",
    description="Works, or asks.",
    version="1.0.0",
    skills=(Skill("work", "Work", "Works.", ("test",)),),
    flow="test.small",
    read=lambda message: {"text": text_of(message)},
)


def engine() -> AbstractAsyncContextManager[Any]:
    return flows.engine("", HOME, beat_s=0.25, dead_s=1.5)


if __name__ == "__main__":
    pushes.HOLD_S, push.LOOK_S, push.FIRST_PAUSE_S = 1.5, 0.3, 0.05
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = create_app([AGENT], Settings(home=HOME, agents=AgentsSettings(push_allow=sys.argv[2:])), engine, url)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    print(url, flush=True)
    asyncio.run(server.serve(sockets=[listener]))
