"""An agent on the official JavaScript SDK, written by others, is worked with like any other."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

AGENT = Path(__file__).parents[1] / "data" / "js" / "agent.mjs"
PACKAGES = ("@a2a-js/sdk@1.3.0", "express@5")


@pytest.fixture(scope="session")
def js_sdk(node: Any) -> Path:
    """A folder in which the SDK is installed, with the agent beside it."""
    folder: Path = node.folder / "a2a-js"
    folder.mkdir(exist_ok=True)
    if not (folder / "node_modules" / "@a2a-js" / "sdk").exists():
        program = node.node.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        npm = [str(node.node / "node"), str(program), "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        environ = {**os.environ, "PATH": f"{node.node}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [*npm, *PACKAGES], cwd=folder, env=environ, capture_output=True, text=True, timeout=200, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"THE JAVASCRIPT SDK WAS NOT TRIED: npm cannot install it. {done.stderr[-200:]}")
    shutil.copy(AGENT, folder)
    return folder


@asynccontextmanager
async def agent(node: Any, folder: Path, binding: str) -> AsyncIterator[str]:
    command = [str(node.node / "node"), str(folder / AGENT.name), binding]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert running.stdout is not None
    try:
        yield (await asyncio.wait_for(asyncio.to_thread(running.stdout.readline), 30)).strip()
    finally:
        running.kill()
        running.communicate()


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    return (await client.call_tool(tool, arguments)).structured_content or {}


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
async def test_an_agent_on_the_javascript_sdk_is_worked_with(
    binding: str, node: Any, js_sdk: Path, tmp_path: Path
) -> None:
    heard: list[str | None] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with agent(node, js_sdk, binding) as url:
        settings = Settings.model_validate({"home": tmp_path, "bridge": {"agents": {"parrot": url}}})
        async with Client(create_server(settings), progress_handler=progress) as client:
            assert f"speaks {binding} 1.0" in (await call(client, "describe_agent", agent="parrot"))["facts"]
            done = await call(client, "delegate", agent="parrot", text="hello")
            assert (done["state"], done["output"]) == ("completed", "you said: hello")
            asked = await call(client, "delegate", agent="parrot", text="ask")
            assert (asked["state"], asked["question"]) == ("input_required", "Which colour?")
            answered = await call(client, "answer_task", task=asked["task"], text="blue")
            assert (answered["state"], answered["output"]) == ("completed", "you said: blue")
            held = await call(client, "delegate", agent="parrot", text="hold", wait_s=1)
            assert held["state"] == "working"
            assert (await call(client, "cancel_task", task=held["task"]))["state"] == "canceled"
    assert "listening" in heard
