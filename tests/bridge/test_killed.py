"""kill -9 of the bridge or of the agent, in each phase: the task is found again, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.bridge import client as bridge_client
from quarterdeck.bridge import follow
from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings

CREW = Path(__file__).parents[1] / "data" / "crew"


class Process:
    """One process that is killed and begun again."""

    def __init__(self, command: list[str], env: dict[str, str], ready: str, *, stderr: bool) -> None:
        self._command, self._env, self._ready, self._stderr = command, env, ready, stderr
        self._running: subprocess.Popen[str] | None = None

    async def start(self) -> str:
        """What it said when it was ready, as the pattern's group."""
        pipe = {"stderr": subprocess.PIPE} if self._stderr else {"stdout": subprocess.PIPE}
        running = subprocess.Popen(self._command, env={**os.environ, **self._env}, text=True, **pipe)  # type: ignore[call-overload]  # noqa: ASYNC220
        self._running = running
        stream = running.stderr if self._stderr else running.stdout

        def read() -> str:
            for line in stream:
                if found := re.search(self._ready, line):
                    return found.group(1)
            raise AssertionError("it ended before it was ready")

        return await asyncio.wait_for(asyncio.to_thread(read), 30)

    def kill(self) -> None:
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.kill(self._running.pid, signal.SIGKILL)
            self._running.communicate()
            self._running = None


async def eventually(what: str, true: Callable[[], Awaitable[Any]], seconds: float = 25) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await true()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert found, what
    return found


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None
    return result.structured_content


@asynccontextmanager
async def leaving(url: str) -> AsyncIterator[Client[Any]]:
    """A client whose server is killed before it takes its leave."""
    client = Client(url)
    await client.__aenter__()
    try:
        yield client
    finally:
        with suppress(Exception):
            await client.close()


@asynccontextmanager
async def killable_bridge(settings: Settings) -> AsyncIterator[Process]:
    env = {
        "QUARTERDECK_HOME": str(settings.home),
        "XDG_CONFIG_HOME": str(settings.home),
        "QUARTERDECK_BRIDGE_AGENTS": ",".join(f"{name}={url}" for name, url in settings.bridge.agents.items()),
    }
    command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "serve", "bridge", "--http", "--port", "0"]
    bridge = Process(command, env, r"bridge +(http://\S+)", stderr=True)
    try:
        yield bridge
    finally:
        bridge.kill()


# (what it is told, what is true when the bridge is killed, the state in the end)
PHASES = {
    "sent": ("mute", "sending", "completed"),  # and no word came back yet
    "working": ("hold", "working", "completed"),
    "asking": ("ask", "input_required", "input_required"),
    "over": ("echo", "completed", "completed"),
}


@pytest.mark.timeout(120)
async def test_a_killed_bridge_finds_its_tasks_again_in_whatever_phase_they_were(ship: Any) -> None:
    ships = {phase: await ship(name=phase) for phase in PHASES}
    agents = {phase: started.url for phase, started in ships.items()}
    home = ships["over"].settings.home
    async with killable_bridge(Settings.model_validate({"home": home, "bridge": {"agents": agents}})) as bridge:
        tasks = {}
        async with leaving(await bridge.start()) as client:
            for phase, (text, _, _) in PHASES.items():
                tasks[phase] = (await call(client, "delegate", agent=phase, text=text, wait_s=0))["task"]

            async def arrived() -> bool:
                listed = (await call(client, "list_tasks"))["tasks"]
                reached = {row["agent"]: row["state"] for row in listed}
                alike = all(reached[phase] == state for phase, (_, state, _) in PHASES.items())
                return alike and all(len(started.crew.received) == 1 for started in ships.values())

            await eventually("each is in its phase", arrived)
            bridge.kill()
        async with Client(await bridge.start()) as client:
            for task in tasks.values():
                await call(client, "check_task", task=task)
            for started in ships.values():
                started.crew.go.set()

            async def over() -> bool:
                seen = {
                    phase: await call(client, "wait_for_task", task=task, wait_s=2) for phase, task in tasks.items()
                }
                return all(seen[phase]["state"] == end for phase, (_, _, end) in PHASES.items())

            await eventually("each came to its end", over)
            answered = await call(client, "answer_task", task=tasks["asking"], text="red")
            assert answered["output"] == "answered: red"
    assert {phase: len(started.crew.received) for phase, started in ships.items()} == {
        "sent": 1, "working": 1, "asking": 2, "over": 1,
    }  # fmt: skip


@pytest.mark.timeout(120)
async def test_a_bridge_killed_while_an_answer_is_on_its_way_does_not_send_it_again(ship: Any) -> None:
    started = await ship()
    async with killable_bridge(started.settings) as bridge:
        async with leaving(await bridge.start()) as client:
            view = await call(client, "delegate", agent="crew", text="ask")
            sending = asyncio.create_task(call(client, "answer_task", task=view["task"], text="slowly", wait_s=20))

            async def arrived() -> bool:
                return len(started.crew.received) == 2

            await eventually("the answer arrived", arrived)
            bridge.kill()
            with suppress(Exception):
                await sending
        async with Client(await bridge.start()) as client:
            twice = await client.call_tool(
                "answer_task", {"task": view["task"], "text": "again", "wait_s": 0}, raise_on_error=False
            )
            assert twice.is_error or (twice.structured_content or {})["state"] == "working"
            started.crew.go.set()

            async def over() -> bool:
                seen = await call(client, "wait_for_task", task=view["task"], wait_s=2)
                return bool(seen["state"] == "completed")

            await eventually("it is over", over)
    assert [message["parts"][0]["text"] for message in started.crew.received] == ["ask", "slowly"]


async def test_a_task_that_a_killed_bridge_never_sent_is_said_to_be_so(tmp_path: Path) -> None:
    from quarterdeck.bridge.tasks import Memory, Record
    from quarterdeck.keel.identity import local_user

    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)  # noqa: ASYNC221
    settings = Settings.model_validate({"home": tmp_path, "bridge": {"agents": {"crew": "http://127.0.0.1:9"}}})
    memory = Memory.of(settings)
    place = f"process {gone.stdout.strip()} of {platform.node()}"
    await memory.begin(Record("t-queued", f"local:{local_user()}", "crew", "x", place, "m1", state="queued"))
    memory.close()
    async with Client(create_server(settings)) as client:
        view = await call(client, "check_task", task="t-queued")
        assert view["state"] == "failed"
        assert "never sent" in view["said"]


@asynccontextmanager
async def killable_agent(tmp_path: Path, *, remembers: bool) -> AsyncIterator[tuple[Process, Path, Settings]]:
    from quarterdeck.crew.ports import free_socket

    listener = free_socket()
    port = listener.getsockname()[1]
    listener.close()
    log = tmp_path / "received"
    command = [sys.executable, "-m", "quarterdeck.crew", str(port), str(log)]
    command += [str(tmp_path / "store.json")] if remembers else []
    agent = Process(command, {"PYTHONPATH": str(CREW)}, r"(http://\S+)", stderr=False)
    settings = {"home": tmp_path / "home", "bridge": {"agents": {"crew": f"http://127.0.0.1:{port}"}, "timeout_s": 3}}
    try:
        await agent.start()
        yield agent, log, Settings.model_validate(settings)
    finally:
        agent.kill()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("text", "state"), [("hold", "working"), ("ask", "input_required"), ("mute", "sending")])
@pytest.mark.parametrize("remembers", [True, False])
async def test_a_killed_agent_gets_nothing_twice(
    text: str, state: str, remembers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SETTLE_S", 2.0)  # so long a message may take to show: here it shows at once or never
    monkeypatch.setattr(bridge_client, "REST_S", 1.0)
    async with killable_agent(tmp_path, remembers=remembers) as (agent, log, settings):  # noqa: SIM117
        async with Client(create_server(settings)) as client:
            view = await call(client, "delegate", agent="crew", text=text, wait_s=0)

            async def reached() -> bool:
                return log.exists() and (await call(client, "check_task", task=view["task"]))["state"] == state

            await eventually(state, reached)
            agent.kill()
            during = await call(client, "wait_for_task", task=view["task"], wait_s=0.5)
            assert during["state"] in (state, "working")
            await agent.start()
            ends = {state, "working"} if remembers and text != "mute" else {"failed", "unknown"}
            if text == "ask":
                ends.add("input_required")  # the bridge only hears that it is gone when it asks again

            async def settled() -> bool:
                seen = await call(client, "wait_for_task", task=view["task"], wait_s=1)
                return seen["state"] in ends

            await eventually(f"one of {ends}", settled)
            if remembers and text == "ask":
                done = await call(client, "answer_task", task=view["task"], text="blue")
                assert done["output"] == "answered: blue"
    messages = log.read_text().splitlines()
    assert len(messages) == (2 if remembers and text == "ask" else 1)
