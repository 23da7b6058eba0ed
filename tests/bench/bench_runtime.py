"""What the agents' runtime costs: a trivial agent behind A2A, ours beside the bare SDK, in memory and on SQLite.

pytest -m bench -s tests/bench/bench_runtime.py

Each server runs in a process of its own and gets the same blocking calls from this one, in rounds that take turns.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import pytest

pytestmark = pytest.mark.bench
CALLERS = 16
CALLS = 320
ROUNDS = 5

START = """
import asyncio, socket, sys
from pathlib import Path
import uvicorn

home = Path(sys.argv[1])

def serve(app):
    # With protocol 0 asyncio leaves TCP_NODELAY off, and answers wait 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
"""

SDK = (
    START
    + """
from contextlib import asynccontextmanager
from a2a.helpers import new_task_from_user_message
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Part
from starlette.applications import Starlette

class Echo(AgentExecutor):
    async def execute(self, context, event_queue):
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.add_artifact([Part(text=context.message.parts[0].text)], name="echo")
        await updater.complete()

    async def cancel(self, context, event_queue):
        pass

card = AgentCard(name="echo", description="echo", version="1", capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"], default_output_modes=["text/plain"],
    supported_interfaces=[AgentInterface(url="http://127.0.0.1/", protocol_binding="JSONRPC", protocol_version="1.0")],
    skills=[AgentSkill(id="echo", name="echo", description="echo", tags=["echo"])])
"""
)
SDK_MEMORY = (
    SDK
    + """
handler = DefaultRequestHandlerV2(Echo(), InMemoryTaskStore(), card)
serve(Starlette(routes=create_jsonrpc_routes(handler, "/echo/")))
"""
)
SDK_SQLITE = (
    SDK
    + """
from a2a.server.cluster import DatabaseTaskEventStream, VersionedDatabaseTaskStore
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(f"sqlite+aiosqlite:///{home / 'tasks.db'}")
store, stream = VersionedDatabaseTaskStore(engine), DatabaseTaskEventStream(engine)

@asynccontextmanager
async def lifespan(app):
    await store.initialize()
    await stream.initialize()
    yield

handler = DefaultRequestHandlerV2(Echo(), store, card, event_stream=stream)
serve(Starlette(routes=create_jsonrpc_routes(handler, "/echo/"), lifespan=lifespan))
"""
)
OURS = (
    START
    + """
from quarterdeck.agents.runtime.agent import Agent, Skill, text_of
from quarterdeck.agents.runtime.app import create_app
from quarterdeck.keel import flows
from quarterdeck.keel.memoryflows import memory_engine
from quarterdeck.keel.settings import Settings

@flows.flow("echo")
async def echo(argument):
    return {"artifacts": [{"name": "echo", "text": argument["text"]}]}

agent = Agent("echo", "echo", "echo", "1", (Skill("echo", "echo", "echo", ("echo",)),), "echo",
              lambda message: {"text": text_of(message)})
settings = Settings(home=home)
"""
)
OURS_MEMORY = OURS + '\nserve(create_app([agent], settings, memory_engine, "http://127.0.0.1"))\n'
OURS_SQLITE = (
    OURS + '\nserve(create_app([agent], settings, lambda: flows.engine(settings.flows, home), "http://127.0.0.1"))\n'
)


@contextmanager
def serving(program: str, home: Path) -> Iterator[str]:
    home.mkdir()
    process = subprocess.Popen([sys.executable, "-P", "-c", program, str(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/echo/"
    finally:
        process.kill()
        process.wait()


async def calls(url: str, callers: int, number: int, mark: str) -> tuple[float, float]:
    """Calls a second, and the 95th percentile in milliseconds."""
    waits: list[float] = []
    left = iter(range(number))
    async with httpx.AsyncClient(headers={"a2a-version": "1.0"}, timeout=60) as http:

        async def caller() -> None:
            for n in left:
                message = {"messageId": f"{mark}-{n}", "role": "ROLE_USER", "parts": [{"text": "hello"}]}
                body = {"jsonrpc": "2.0", "id": n, "method": "SendMessage", "params": {"message": message}}
                begun = time.perf_counter()
                answer = (await http.post(url, json=body)).json()
                waits.append(time.perf_counter() - begun)
                task = answer["result"]["task"]
                assert task["status"]["state"] == "TASK_STATE_COMPLETED"
                assert task["artifacts"][0]["parts"][0]["text"] == "hello"

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        took = time.perf_counter() - begun
    return number / took, sorted(waits)[int(number * 0.95)] * 1000


@pytest.mark.timeout(600)
def test_a_trivial_agent_on_the_runtime(tmp_path: Path) -> None:
    programs = {
        "sdk memory": SDK_MEMORY,
        "ours memory": OURS_MEMORY,
        "sdk sqlite": SDK_SQLITE,
        "ours sqlite": OURS_SQLITE,
    }
    from contextlib import ExitStack

    found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    with ExitStack() as stack:
        urls = {
            name: stack.enter_context(serving(program, tmp_path / name.replace(" ", "-")))
            for name, program in programs.items()
        }
        for url in urls.values():
            asyncio.run(calls(url, 4, 40, "warm"))
        for number in range(ROUNDS):
            for name, url in urls.items():
                found[name].append(asyncio.run(calls(url, CALLERS, CALLS, f"round{number}")))
    rate = {name: median(one[0] for one in rounds) for name, rounds in found.items()}
    p95 = {name: median(one[1] for one in rounds) for name, rounds in found.items()}
    for name in programs:
        print(f"\n{name:<12} {rate[name]:7.0f} calls/s   p95 {p95[name]:7.0f} ms", end="")
    print(f"\nin memory: {rate['sdk memory'] / rate['ours memory'] - 1:+.0%} overhead over the bare SDK")
    more, slower = rate["ours sqlite"] / rate["sdk sqlite"], p95["ours sqlite"] / p95["sdk sqlite"]
    print(f"durable: {more:.1f} × the calls a second, {slower:.2f} × the p95")
    assert rate["ours sqlite"] > rate["sdk sqlite"]
