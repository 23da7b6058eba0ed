"""A person's AI client supervises the remediation agent through the bridge, both in one Quarterdeck home."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agent_process import Agent, agent_process, broken
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import load
from quarterdeck.titanium.story import PracticeWorld, practice_world

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=8) as world:
        yield world


@pytest.fixture(scope="module")
def agent(world: PracticeWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with agent_process(tmp_path_factory.mktemp("agent"), world) as agent:
        yield agent


@pytest.fixture(autouse=True)
def anew(world: PracticeWorld) -> Iterator[None]:
    yield
    world.renew()


def bridge(agent: Agent, **client: Any) -> Client[Any]:
    settings = load(
        {
            "QUARTERDECK_HOME": str(agent.home),
            "QUARTERDECK_BRIDGE_CREDENTIALS": "remediation=kim",
            "QUARTERDECK_BRIDGE_AGENTS": f"remediation={agent.url}/remediation",
            "XDG_CONFIG_HOME": str(agent.home / "none"),
        }
    )
    return Client(create_server(settings), **client)


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    found = (await client.call_tool(tool, arguments)).structured_content
    assert found is not None
    return found


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_typed_yes_in_the_clients_dialog_is_the_grant_and_the_agent_mends(
    world: PracticeWorld, agent: Agent, era: str
) -> None:
    broken(world, "blog-locked", "blog-service")
    shown: list[str] = []

    async def answer(message: str, *_: Any) -> Any:
        shown.append(message)
        return ElicitResult(action="accept", content={"approve": "yes"})

    async with bridge(agent, mode=era, elicitation_handler=answer) as client:
        view = await call(client, "delegate", agent="remediation", text="the blog is down, mend it", wait_s=120)
    assert view["state"] == "completed", view
    assert "Recovered" in view["output"]
    for message in shown:  # again, should the deployment have changed meanwhile
        assert "Restart deployment blog-service" in message
        assert "asked by agent:remediation" in message


async def test_without_a_dialog_there_is_one_request_and_the_terminal_decides(
    world: PracticeWorld, agent: Agent
) -> None:
    broken(world, "blog-locked", "blog-service")
    async with bridge(agent) as client:
        view = await call(client, "delegate", agent="remediation", text="the blog is down, mend it", wait_s=60)
        assert view["state"] == "input_required", view
        for words in ("yes", "approve", '{"approve": true}'):
            again = await call(client, "answer_task", task=view["task"], text=words, wait_s=1)
            assert again["state"] == "input_required"
        (pending,) = agent.changes.waiting()
        assert (pending.id, pending.caller) == (view["change_id"], "agent:remediation")
        assert f"quarterdeck approve {pending.id}" in view["next"]
        agent.approve(pending.id)
        done = await call(client, "answer_task", task=view["task"], wait_s=60)  # as `next` says
        if done["state"] == "working":  # on a busy machine
            done = await call(client, "wait_for_task", task=view["task"], wait_s=60)
    assert done["state"] == "completed"
    assert "Recovered" in done["output"]


def test_a_browser_at_the_agents_address_is_told_what_is_there(agent: Agent) -> None:
    answer = agent.get("/", token="reader")
    assert answer.status_code == 200
    assert f"{agent.url}/remediation" in answer.text
