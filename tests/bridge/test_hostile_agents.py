"""Whatever an agent does, the call ends in one short sentence, within its limit, and nothing gets out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings

LIMITS = {"timeout_s": 1.5, "longest_s": 8, "largest_mb": 1}
CARDS = {
    "card of 10 MB": "larger than",
    "card in HTML": "instead of JSON",
    "card is a list": "no JSON object",
    "card is a wrong object": "names no address",
    "card without an address": "names no address",
    "card is nested too deep": "not JSON",
    "card redirects to metadata": "Redirects are not followed",
    "card points to metadata": "metadata",
    "card points inside": "inside",
    "card is not there": "no card",
    "card asks for a credential": "credentials",
    "card drips": "slowly|within",
    "card says a strange binding": "speaks PIGEON",
}
TALK = {
    "endless stream": "sent more than",
    "endless line": "sent more than 1 MB",
    "huge artifact": "more than 1 MB",
    "ever new streams of text": "made more than 1 MB",
    "ever new streams of data": "made more than 1 MB",
    "stream of HTML": "instead of JSON",
    "answer in HTML": "instead of JSON",
    "wrong content type": "instead of JSON",
    "answer of a wrong content type": "instead of JSON",
    "answer packed": "packed",
    "redirect to metadata": "Redirects are not followed",
    "answer redirects to metadata": "Redirects are not followed",
    "answer drips": "slowly",
    "answer of 3 MB": "more than 1 MB",
    "answer is a list": "answered with",
    "answer is no task": "answered with",
    "answer is an error with a secret": "answered with an error|refused",
    "another task": "another task",
    "nonsense events": "answered with",
}


@asynccontextmanager
async def hostile(how: str, tmp_path: Path, **more: Any) -> AsyncIterator[Client[Any]]:
    from quarterdeck.crew.hostile import app
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    settings = Settings.model_validate({"home": tmp_path, "bridge": {"agents": {"crew": url}, **LIMITS, **more}})
    async with serving(app(url, how), listener), Client(create_server(settings)) as client:
        yield client


@pytest.mark.parametrize("how", [*CARDS, *TALK])
async def test_a_hostile_agent_ends_in_one_sentence_within_its_limit(how: str, tmp_path: Path) -> None:
    import re

    async with hostile(how, tmp_path) as client:
        began = time.monotonic()
        result = await client.call_tool("delegate", {"agent": "crew", "text": "x", "wait_s": 12})
        assert time.monotonic() - began < 12, "the limit"
        view = result.structured_content or {}
        assert view["state"] == "failed", view
        assert re.search({**CARDS, **TALK}[how], view["said"]), view["said"]
        assert len(view["said"]) < 400
        text = result.content[0].text  # type: ignore[union-attr]
        assert "hunter2" not in text
        assert "\x1b" not in text
        assert "Traceback" not in text
        again = await client.call_tool("check_task", {"task": view["task"]})
        assert (again.structured_content or {})["state"] == "failed"


@pytest.mark.parametrize("how", CARDS)
async def test_listing_survives_every_hostile_card(how: str, tmp_path: Path) -> None:
    async with hostile(how, tmp_path) as client:
        listed = (await client.call_tool("list_agents", {})).structured_content or {}
        (row,) = listed["agents"]
        assert len(str(listed)) < 3000
        if how not in ("card points to metadata", "card points inside", "card says a strange binding"):
            assert row["answers"] is False


async def test_a_task_id_of_another_tenant_is_not_believed(tmp_path: Path) -> None:
    """The agent answers a second caller with the id of the first caller's task."""
    from quarterdeck.bridge.tasks import Memory, Record
    from quarterdeck.crew.hostile import app
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    settings = Settings.model_validate({"home": tmp_path, "bridge": {"agents": {"crew": url}, **LIMITS}})
    memory = Memory.of(settings)
    await memory.begin(Record("t-theirs", "token:other", "crew", "secret", url, "m0", remote="r1", state="working"))
    memory.close()
    async with serving(app(url, "another task"), listener), Client(create_server(settings)) as client:
        view = (await client.call_tool("delegate", {"agent": "crew", "text": "x"})).structured_content or {}
        assert view["state"] == "failed"
        assert "another task" in view["said"]
        for tool in ("check_task", "wait_for_task", "cancel_task", "answer_task", "read_artifact"):
            result = await client.call_tool(tool, {"task": "t-theirs"}, raise_on_error=False)
            assert result.is_error
            assert "no task" in result.content[0].text  # type: ignore[union-attr]
        listed = (await client.call_tool("list_tasks", {})).structured_content or {}
        assert "t-theirs" not in str(listed)


async def test_an_agent_that_is_down_is_said_to_be_and_left_alone_for_a_while(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"home": tmp_path, "bridge": {"agents": {"crew": "http://127.0.0.1:9"}, **LIMITS}}
    )
    async with Client(create_server(settings)) as client:
        said = []
        for _ in range(8):
            result = await client.call_tool("delegate", {"agent": "crew", "text": "x"})
            said.append((result.structured_content or {})["said"])
        assert "refused the connection" in said[0]
        assert "Nothing was sent" in said[0]
        assert "left alone" in said[-1]


async def test_a_dead_instance_is_passed_over(tmp_path: Path) -> None:
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    crews, places = [], ["http://127.0.0.1:9/"]
    listeners = [free_socket(), free_socket()]
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:
        for listener in listeners:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            places.append(url)
            crews.append(Crew())
            await stack.enter_async_context(serving(app(crews[-1], card(url)), listener))
        bridge = {"agents": {"crew": " ".join(places)}}
        client = Client(create_server(Settings.model_validate({"home": tmp_path, "bridge": bridge})))
        await stack.enter_async_context(client)
        for n in range(9):
            result = await client.call_tool("delegate", {"agent": "crew", "text": f"piece {n}"})
            assert (result.structured_content or {})["state"] == "completed"
    assert sum(len(crew.received) for crew in crews) == 9
    assert all(len(crew.received) >= 3 for crew in crews), "both living instances get their share"


async def test_with_hedging_an_instance_that_hangs_holds_up_no_task_and_no_message_is_sent_twice(
    tmp_path: Path,
) -> None:
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    crew, hung, listener = Crew(), free_socket(), free_socket()
    places = [f"http://127.0.0.1:{one.getsockname()[1]}/" for one in (hung, listener)]
    bridge = {"agents": {"crew": " ".join(places)}, "hedge_s": 0.2}
    settings = Settings.model_validate({"home": tmp_path, "bridge": bridge})
    async with serving(app(crew, card(places[1])), listener), Client(create_server(settings)) as client:
        for n in range(4):  # it is the turn of either
            result = await client.call_tool("delegate", {"agent": "crew", "text": f"piece {n}", "wait_s": 5})
            assert (result.structured_content or {})["state"] == "completed"
    hung.close()
    assert [message["parts"][0]["text"] for message in crew.received] == [f"piece {n}" for n in range(4)]


@pytest.mark.parametrize(
    ("said", "offered"),
    [
        ("Sign in at https://login.example/a?b=c.", "https://login.example/a?b=c"),
        ("https://login.example@evil.example/", ""),
        ("https://evil.example\\.login.example/", ""),
        ("http://evil.example/ or javascript:alert(1)", ""),
    ],
)
def test_only_an_address_that_goes_where_it_says_is_offered_for_signing_in(said: str, offered: str) -> None:
    from quarterdeck.bridge.messages import _address_in

    assert _address_in({"parts": [{"text": said}]}) == offered
