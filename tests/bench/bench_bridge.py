"""What the bridge costs: run with `pytest -m bench -s tests/bench/bench_bridge.py`."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings

CREW = Path(__file__).parents[1] / "data" / "crew"
sys.path.append(str(CREW))
ROUNDS = 150


@asynccontextmanager
async def agent(tmp_path: Path) -> AsyncIterator[str]:
    """One agent in a process of its own, as it would be."""
    command = [sys.executable, "-m", "quarterdeck.crew", "0", str(tmp_path / "log")]
    running = subprocess.Popen(command, env={"PYTHONPATH": str(CREW)}, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert running.stdout is not None
    try:
        yield (await asyncio.wait_for(asyncio.to_thread(running.stdout.readline), 30)).strip()
    finally:
        running.kill()
        running.communicate()


def bridge(url: str, home: Path) -> Client[Any]:
    return Client(create_server(Settings.model_validate({"home": home, "bridge": {"agents": {"crew": url}}})))


async def directly(client: Any, text: str) -> None:
    from a2a.types.a2a_pb2 import Message, Part, Role, SendMessageRequest

    message = Message(message_id=f"{time.perf_counter_ns()}", role=Role.ROLE_USER, parts=[Part(text=text)])
    async for _ in client.send_message(SendMessageRequest(message=message)):
        pass


def p50(taken: list[float]) -> float:
    return statistics.median(taken) * 1000


@pytest.mark.bench
@pytest.mark.timeout(180)
async def test_a_blocking_call_costs_less_than_half_more_than_the_sdk_itself(tmp_path: Path) -> None:
    from a2a.client.client import ClientConfig
    from a2a.client.client_factory import ClientFactory

    async with agent(tmp_path) as url, httpx.AsyncClient() as http, bridge(url, tmp_path) as client:
        sdk = await ClientFactory(ClientConfig(httpx_client=http)).create_from_url(url)
        taken: dict[str, list[tuple[float, float]]] = {"direct": [], "bridged": [], "bare": []}

        async def timed(kind: str, call: Awaitable[Any]) -> None:
            began, spent = time.perf_counter(), time.process_time()
            await call
            taken[kind].append((time.perf_counter() - began, time.process_time() - spent))
            await asyncio.sleep(0.02)  # what a call leaves behind is nobody else's burden

        for n in range(ROUNDS + 20):
            if n == 20:
                for rows in taken.values():
                    rows.clear()
            await timed("direct", directly(sdk, f"echo {n}"))
            await timed("bridged", client.call_tool("delegate", {"agent": "crew", "text": f"echo {n}"}))
            await timed("bare", client.call_tool("list_tasks", {"state": "unknown"}))  # a call that asks no agent
    wall = {kind: p50([row[0] for row in rows]) for kind, rows in taken.items()}
    spent = {kind: p50([row[1] for row in rows]) for kind, rows in taken.items()}
    whole, own = wall["bridged"] / wall["direct"], (wall["bridged"] - wall["bare"]) / wall["direct"]
    print(
        f"\nblocking call, p50: direct {wall['direct']:.2f} ms, through the bridge {wall['bridged']:.2f} ms "
        f"({whole:.2f} times), of which an MCP call by itself takes {wall['bare']:.2f} ms; without that {own:.2f} "
        f"times. CPU of this process: {spent['direct']:.2f}, {spent['bridged']:.2f} and {spent['bare']:.2f} ms"
    )
    assert whole < 1.5


@pytest.mark.bench
@pytest.mark.timeout(180)
async def test_a_hundred_delegations_at_once(tmp_path: Path) -> None:
    async with agent(tmp_path) as url, bridge(url, tmp_path) as client:
        await client.call_tool("delegate", {"agent": "crew", "text": "warm up"})
        began = time.perf_counter()
        calls = [client.call_tool("delegate", {"agent": "crew", "text": f"echo {n}", "wait_s": 60}) for n in range(100)]
        results = await asyncio.gather(*calls)
        took = time.perf_counter() - began
    outputs = {result.structured_content["output"] for result in results if result.structured_content}
    assert outputs == {f"echo: echo {n}" for n in range(100)}
    print(f"\n100 delegations at once: {took:.2f} s, {100 / took:.0f} a second")


@pytest.mark.bench
@pytest.mark.timeout(180)
async def test_the_first_word_arrives_at_once(tmp_path: Path) -> None:
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    crew, taken = Crew(), []
    loop = asyncio.get_running_loop()
    async with serving(app(crew, card(url)), listener), bridge(url, tmp_path) as client:
        for _ in range(15):
            heard: list[float] = []

            async def progress(done: float, total: Any, message: Any, heard: list[float] = heard) -> None:
                heard.append(loop.time())

            crew.go.clear()
            call = asyncio.create_task(
                client.call_tool("delegate", {"agent": "crew", "text": "signal"}, progress_handler=progress)
            )
            await asyncio.sleep(0.2)
            crew.go.set()
            await call
            taken.append(heard[0] - crew.spoke_at)
    taken.sort()
    print(f"\nfrom the agent's word to the client: p50 {p50(taken):.1f} ms, longest {taken[-1] * 1000:.1f} ms")
    assert p50(taken) < 50
