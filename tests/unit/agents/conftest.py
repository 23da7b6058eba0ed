"""Small agents on a real port, spoken to by the official A2A client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from a2a.client import ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types.a2a_pb2 import Message, Part, Role, SendMessageRequest

from quarterdeck.agents.runtime.agent import Agent, Skill, data_of, text_of
from quarterdeck.agents.runtime.app import create_app
from quarterdeck.keel import flows
from quarterdeck.keel.memoryflows import memory_engine
from quarterdeck.keel.settings import AgentsSettings, HttpSettings, Settings

runs: list[str] = []
"""What the echo flow really did, for tests that count."""


@flows.flow("test.echo")
async def echo(argument: dict[str, Any]) -> dict[str, Any]:
    words = argument["text"].split()
    match words[0]:
        case "fail":
            raise flows.FlowFailed("The machine is out of paper.")
        case "ask":
            answer = await flows.ask("Which colour?", data={"choices": ["red", "blue"]}, timeout_s=30)
            return {"text": f"{answer['text'] if answer else 'nobody'} by {answer['by'] if answer else 'nobody'}"}
        case "change":
            answer = await flows.ask("Pull the lever?", data={"change_id": words[1]}, timeout_s=30)
            return {"text": f"decided: {answer['text'] if answer else 'nobody'}"}
        case "slow":
            await flows.progress("begun", 0.1)
            await flows.step("wait", asyncio.sleep, 30)
        case "talk":
            for number in range(3):
                await flows.progress(f"part {number}", number / 3)
            await flows.progress("made", data={"artifact": {"id": "page", "name": "page", "text": "# A page"}})
        case _:

            async def note() -> None:
                runs.append(argument["text"])

            await flows.step("note", note)
    artifact = {"name": "echo", "text": argument["text"], "media_type": "text/plain"}
    return {"text": f"You said {argument['text']}", "artifacts": [artifact]}


ECHO = Agent(
    name="echo",
    title="Echo",
    description="Says what it hears.",
    version="1.0.0",
    skills=(Skill("echo", "Echo", "Says it again.", ("talk",), ("hello",)),),
    extended=(Skill("secret", "Secret", "Only for those who are known.", ("talk",)),),
    flow="test.echo",
    read=lambda message: {"text": text_of(message) or str(data_of(message))},
)


@dataclass
class Served:
    url: str
    settings: Settings

    def http(self, token: str = "") -> httpx.AsyncClient:
        headers = {"a2a-version": "1.0"} | ({"authorization": f"Bearer {token}"} if token else {})
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)

    async def client(self, http: httpx.AsyncClient, *, binding: str = "JSONRPC", **config: Any) -> Client:
        chosen = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], **config)
        return await ClientFactory(chosen).create_from_url(f"{self.url}/echo")


def said(text: str, **more: Any) -> SendMessageRequest:
    id = more.pop("message_id", f"m-{text}-{len(more)}")
    message = Message(message_id=id, role=Role.ROLE_USER, parts=[Part(text=text)], **more)
    return SendMessageRequest(message=message)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(params=["memory", "durable"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    def open_engine() -> AbstractAsyncContextManager[Any]:
        return memory_engine() if request.param == "memory" else flows.engine("", tmp_path / "home")

    @asynccontextmanager
    async def running(**settings: Any) -> AsyncIterator[Served]:
        with socket.socket(proto=socket.IPPROTO_TCP) as listener:
            listener.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            http = HttpSettings.model_validate(settings.get("http") or {})
            agents = AgentsSettings.model_validate(settings.get("agents") or {})
            chosen = Settings(home=tmp_path / "home", http=http, agents=agents)
            app = create_app([ECHO], chosen, open_engine, url)
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
            task = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started and not task.done():  # noqa: ASYNC110  uvicorn offers no event
                await asyncio.sleep(0.01)
            try:
                yield Served(url, chosen)
            finally:
                server.should_exit = True
                await task

    return running
