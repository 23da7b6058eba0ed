"""gRPC, and agents that push instead of streaming."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.bridge import follow
from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.call_tool(tool, arguments)).structured_content or {}
    return found


async def test_an_agent_that_speaks_only_grpc_is_worked_with(tmp_path: Path) -> None:
    grpc = pytest.importorskip("grpc")
    from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
    from a2a.server.request_handlers.grpc_handler import GrpcHandler
    from a2a.server.tasks import InMemoryTaskStore
    from a2a.types import a2a_pb2_grpc

    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    crew, listener = Crew(), free_socket()
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    shown = card(f"127.0.0.1:{port}", binding="GRPC")
    handler = DefaultRequestHandlerV2(agent_executor=crew, task_store=InMemoryTaskStore(), agent_card=shown)
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    await server.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    bridge = {"agents": {"crew": url}, "also": {"crew": f"http://127.0.0.1:{port}"}}
    try:
        async with serving(app(crew, shown), listener):
            settings = Settings.model_validate({"home": tmp_path, "bridge": bridge})
            async with Client(create_server(settings)) as client:
                assert (await call(client, "delegate", agent="crew", text="hello"))["output"] == "echo: hello"
                asked = await call(client, "delegate", agent="crew", text="ask")
                assert asked["state"] == "input_required"
                answered = await call(client, "answer_task", task=asked["task"], text="blue")
                assert answered["output"] == "answered: blue"
                await server.stop(None)
                view = await call(client, "delegate", agent="crew", text="x", wait_s=20)
                assert view["state"] in ("failed", "unknown")
            inside = Settings.model_validate({"home": tmp_path / "2", "bridge": {"agents": {"crew": url}}})
            async with Client(create_server(inside)) as client:
                view = await call(client, "delegate", agent="crew", text="x")
                assert "inside" in view["said"], "its port is not the one the settings name"
    finally:
        await server.stop(None)
    assert len(crew.received) == 3


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long between two questions to the agent that no test would wait for it."""
    monkeypatch.setattr(follow, "FIRST_POLL_S", 40.0)
    monkeypatch.setattr(follow, "LAST_POLL_S", 40.0)


async def test_an_agent_that_pushes_wakes_a_waiting_call(tmp_path: Path, patient: None) -> None:
    import httpx
    from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
    from a2a.server.tasks import BasePushNotificationSender, InMemoryPushNotificationConfigStore, InMemoryTaskStore
    from starlette.applications import Starlette

    from quarterdeck.crew.obliging import Crew, card
    from quarterdeck.crew.ports import free_socket, serving
    from quarterdeck.deck.serve import http_app

    crew, agent_socket, bridge_socket = Crew(), free_socket(), free_socket()
    agent_url, bridge_url = (f"http://127.0.0.1:{one.getsockname()[1]}" for one in (agent_socket, bridge_socket))
    shown = card(f"{agent_url}/", streaming=False)
    shown.capabilities.push_notifications = True
    configs = InMemoryPushNotificationConfigStore()
    async with httpx.AsyncClient() as http:
        handler = DefaultRequestHandlerV2(
            agent_executor=crew,
            task_store=InMemoryTaskStore(),
            agent_card=shown,
            push_config_store=configs,
            push_sender=BasePushNotificationSender(http, configs),
        )
        agent = Starlette(routes=[*create_agent_card_routes(shown), *create_jsonrpc_routes(handler, "/")])
        bridge = {"agents": {"crew": agent_url}, "push_url": bridge_url}
        settings = Settings.model_validate({"home": tmp_path, "bridge": bridge})
        served = serving(http_app(["bridge"], settings), bridge_socket, lifespan="on")
        async with serving(agent, agent_socket), served, Client(f"{bridge_url}/bridge") as client:
            view = await call(client, "delegate", agent="crew", text="hold", wait_s=0)
            for token in ("", "wrong"):
                url = f"{bridge_url}/bridge/push/{view['task']}"
                assert (await http.post(url, headers={"x-a2a-notification-token": token})).status_code == 404

            async def reached() -> bool:
                return bool(crew.received)

            await eventually(reached)
            crew.go.set()
            done = await call(client, "wait_for_task", task=view["task"], wait_s=20)
            assert (done["state"], done["output"]) == ("completed", "let go")


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    import asyncio

    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
