"""Agents by others say some things a little differently. Each server here says what one of them was seen to say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.settings import Settings

Json = dict[str, Any]
Talk = Callable[[str, Json], Any]
"""From a method and its parameters to a result, or to the list of results that a stream carries."""
CARD = "/.well-known/agent-card.json"


def old_card(url: str, **more: Any) -> Json:
    return {
        "name": "other", "description": "by others", "version": "1", "url": url, "protocolVersion": "0.3.0",
        "capabilities": {"streaming": True}, "defaultInputModes": ["text"], "defaultOutputModes": ["text"],
        "skills": [{"id": "echo", "name": "echo", "description": "says it again", "tags": []}], **more,
    }  # fmt: skip


def new_card(url: str, **more: Any) -> Json:
    interface = {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    return {
        "name": "other", "description": "by others", "version": "1", "supportedInterfaces": [interface],
        "capabilities": {"streaming": True}, "skills": [], **more,
    }  # fmt: skip


def answer(talk: Talk, body: Json, kind: str = "") -> Response:
    told = talk(body["method"], body["params"])
    if isinstance(told, Response):
        return told
    if isinstance(told, list):
        events = [json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": one}) for one in told]
        return Response("".join(f"data: {one}\n\n" for one in events), media_type=kind or "text/event-stream")
    if "code" in told:
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "error": told})
    text = json.dumps({"jsonrpc": "2.0", "id": body["id"], "result": told})
    return Response(text, media_type=kind or "application/json")


@asynccontextmanager
async def other(
    tmp_path: Path,
    talk: Talk,
    shown: Callable[[str], Json] = new_card,
    *,
    at: str = "/",
    named: str = "",
    kind: str = "",
) -> AsyncIterator[Client[Any]]:
    """A bridge to an agent that talks at the path `at`, and that the settings name by the path `named`."""
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def card(request: Request) -> Response:
        if kind:
            return Response(json.dumps(shown(origin + at)), media_type=kind)
        return JSONResponse(shown(origin + at))

    async def talks(request: Request) -> Response:
        return answer(talk, await request.json(), kind)

    app = Starlette(routes=[Route(CARD, card), Route(at, talks, methods=["POST"])])
    settings = Settings.model_validate({"home": tmp_path, "bridge": {"agents": {"other": origin + named}}})
    async with serving(app, listener), Client(create_server(settings)) as client:
        yield client


async def call(client: Client[Any], tool: str, **arguments: Any) -> Json:
    found: Json = (await client.call_tool(tool, arguments)).structured_content or {}
    return found


def message(text: str, **more: Any) -> Json:
    """As 0.3 writes it."""
    return {
        "kind": "message", "role": "agent", "messageId": "m1", "parts": [{"kind": "text", "text": text}],
        "taskId": "r1", "contextId": "c1", **more,
    }  # fmt: skip


def update(state: str, text: str = "", **more: Any) -> Json:
    status = {"state": state, **({"message": message(text)} if text else {})}
    final = state not in ("submitted", "working")
    return {"kind": "status-update", "taskId": "r1", "contextId": "c1", "status": status, "final": final, **more}


def echo(method: str, params: Json) -> Any:
    """An agent of 0.3 that streams one message and nothing else."""
    said = message("echo: " + params["message"]["parts"][0]["text"], taskId=None)
    return [said] if method == "message/stream" else said


@pytest.mark.parametrize(
    "differs",
    [
        {"version": 2, "provider": "me", "skills": None},
        {"skills": ["echo", {"id": 7, "name": "seven", "tags": "many", "examples": [{"input": "x"}]}]},
        {"capabilities": ["streaming"], "defaultInputModes": "text", "securitySchemes": {"a": None}},
        {"capabilities": {"streaming": "true", "extensions": ["x"]}, "additionalInterfaces": None},
        {"protocolVersion": "0.2.5", "preferredTransport": "jsonrpc"},
        {"protocolVersion": 0.3, "preferredTransport": None, "supportedInterfaces": []},
        {"url": "/"},
        {"url": ""},
    ],
)
async def test_a_card_of_odd_shape_is_read(differs: Json, tmp_path: Path) -> None:
    if differs.get("url") == "":  # old, new and unusable at once: the usable address counts
        differs = {"url": None, "supportedInterfaces": [{"url": ""}, {"url": "/", "transport": "JSONRPC"}]}
        new = True
    else:
        new = False

    def talk(method: str, params: Json) -> Any:
        if not new:
            return echo(method, params)
        assert method == "SendStreamingMessage"
        parts = [{"text": "echo: " + params["message"]["parts"][0]["text"]}]
        return [{"message": {"messageId": "m1", "role": "ROLE_AGENT", "parts": parts}}]

    async with other(tmp_path, talk, lambda url: {**old_card(url), **differs}) as client:
        assert (await call(client, "list_agents"))["agents"][0]["answers"] is True
        assert (await call(client, "delegate", agent="other", text="hello"))["output"] == "echo: hello"


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "[::1]", "[::]"])
async def test_a_card_may_write_this_machine_in_another_way(host: str, tmp_path: Path) -> None:
    def shown(url: str) -> Json:
        return old_card(url.replace("127.0.0.1", host))

    async with other(tmp_path, echo, shown) as client:
        view = await call(client, "delegate", agent="other", text="hello")
    if host == "[::1]":  # nobody listens there, but it may be tried
        assert "cannot be reached" in view["said"]
    else:
        assert view["output"] == "echo: hello"


async def test_an_agent_may_be_named_by_where_it_talks(tmp_path: Path) -> None:
    async with other(tmp_path, echo, old_card, at="/a2a", named="/a2a/") as client:
        assert (await call(client, "delegate", agent="other", text="hello"))["output"] == "echo: hello"


async def test_the_card_at_the_root_is_not_taken_for_another_agents(tmp_path: Path) -> None:
    async with other(tmp_path, echo, old_card, at="/a2a", named="/agents/seven") as client:
        (row,) = (await call(client, "list_agents"))["agents"]
        assert row["answers"] is False
        assert "shows no card" in row["about"]


async def test_a_card_may_stand_behind_a_question_in_its_address(tmp_path: Path) -> None:
    async with other(tmp_path, echo, old_card, named="?assistant_id=7") as client:
        assert (await call(client, "delegate", agent="other", text="hello"))["output"] == "echo: hello"


async def test_a_redirect_that_only_adds_a_slash_is_followed_and_no_other(tmp_path: Path) -> None:
    from quarterdeck.crew.ports import free_socket, serving

    listener = free_socket()
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    heard: list[str] = []

    async def card(request: Request) -> Response:
        return JSONResponse(old_card(f"{origin}/{'elsewhere' if 'x' in request.query_params else 'a2a'}"))

    async def slash(request: Request) -> Response:
        # Behind a proxy it names itself wrongly.
        return RedirectResponse("http://internal.example/a2a/", 307)

    async def elsewhere(request: Request) -> Response:
        return RedirectResponse("/a2a/", 307)

    async def talks(request: Request) -> Response:
        body = await request.json()
        heard.append(body["params"]["message"]["parts"][0]["text"])
        return answer(echo, body)

    routes = [
        Route(CARD, card),
        Route("/a2a", slash, methods=["POST"]),
        Route("/elsewhere", elsewhere, methods=["POST"]),
        Route("/a2a/", talks, methods=["POST"]),
    ]
    agents = {"slashed": origin, "moved": f"{origin}?x=1"}
    settings = Settings.model_validate({"home": tmp_path, "bridge": {"agents": agents}})
    async with serving(Starlette(routes=routes), listener), Client(create_server(settings)) as client:
        assert (await call(client, "delegate", agent="slashed", text="hello"))["output"] == "echo: hello"
        assert "Redirects are not followed" in (await call(client, "delegate", agent="moved", text="hi"))["said"]
    assert heard == ["hello"]


async def test_json_and_events_that_come_as_mere_text_are_read(tmp_path: Path) -> None:
    async with other(tmp_path, echo, old_card, kind="text/plain") as client:
        assert (await call(client, "delegate", agent="other", text="hello"))["output"] == "echo: hello"


class Worker:
    """As fasta2a: moments without a zone; the stream tells that it is over, and only the task tells what was made. Each
    message begins a new task in the same context."""

    def __init__(self) -> None:
        self.tasks: dict[str, Json] = {}

    def talk(self, method: str, params: Json) -> Any:
        if method == "GetTask":
            return self.tasks[params["id"]]
        assert method == "SendStreamingMessage", method
        sent = params["message"]
        id, text = f"r{len(self.tasks)}", sent["parts"][0]["text"]
        state = "TASK_STATE_INPUT_REQUIRED" if text == "ask" else "TASK_STATE_COMPLETED"
        words = "Which colour?" if text == "ask" else f"answer to {text}"
        said = {"role": "ROLE_AGENT", "parts": [{"text": words}], "messageId": f"a{id}"}
        task: Json = {
            "id": id, "contextId": "c1", "history": [sent],
            "status": {"state": "TASK_STATE_SUBMITTED", "timestamp": "2026-11-21T14:13:34.745011"},
        }  # fmt: skip
        ended: Json = {"state": state, "timestamp": "2026-11-21T14:13:35"}
        self.tasks[id] = {**task, "status": ended, "history": [sent, said]}
        if text == "make":
            parts = [{"text": "made"}, {"data": {"count": 3, "timestamp": "2026-11-21T14:13:34"}}]
            self.tasks[id]["artifacts"] = [{"artifactId": "x", "parts": parts}]
        return [{"task": task}, {"statusUpdate": {"taskId": id, "contextId": "c1", "status": ended}}]


async def test_what_only_the_task_tells_is_fetched_and_moments_need_no_zone(tmp_path: Path) -> None:
    async with other(tmp_path, Worker().talk) as client:
        made = await call(client, "delegate", agent="other", text="make")
        assert made["state"] == "completed"
        page = await call(client, "read_artifact", task=made["task"])
        assert json.loads(page["text_of_it"].removeprefix("made\n")) == {"count": 3, "timestamp": "2026-11-21T14:13:34"}
        assert "3.0" not in page["text_of_it"]
        assert (await call(client, "delegate", agent="other", text="hello"))["output"] == "answer to hello"


async def test_an_answer_that_begins_a_new_task_goes_on_in_that(tmp_path: Path) -> None:
    async with other(tmp_path, Worker().talk) as client:
        asked = await call(client, "delegate", agent="other", text="ask")
        assert (asked["state"], asked["question"]) == ("input_required", "Which colour?")
        assert (await call(client, "check_task", task=asked["task"]))["question"] == "Which colour?"
        done = await call(client, "answer_task", task=asked["task"], text="blue")
        assert (done["state"], done["output"]) == ("completed", "answer to blue")
        assert (await call(client, "check_task", task=asked["task"]))["state"] == "completed"


async def test_a_new_task_that_does_not_show_our_answer_is_not_believed(tmp_path: Path) -> None:
    worker = Worker()

    def talk(method: str, params: Json) -> Any:
        told = worker.talk(method, params)
        if method == "SendStreamingMessage" and params["message"]["parts"][0]["text"] == "blue":
            told[0]["task"]["history"] = []
        return told

    async with other(tmp_path, talk) as client:
        asked = await call(client, "delegate", agent="other", text="ask")
        done = await call(client, "answer_task", task=asked["task"], text="blue")
        assert done["state"] == "failed"
        assert "another task" in done["said"]


async def test_an_agent_that_wants_to_hear_which_outputs_are_taken_hears_its_own(tmp_path: Path) -> None:
    heard: list[Json] = []

    def talk(method: str, params: Json) -> Any:
        heard.append(params["configuration"])
        return echo(method, params)

    plain = {"capabilities": {"streaming": False}, "defaultOutputModes": ["application/json"]}
    async with other(tmp_path, talk, lambda url: old_card(url, **plain)) as client:
        assert (await call(client, "delegate", agent="other", text="hello"))["output"] == "echo: hello"
    assert heard[0]["acceptedOutputModes"] == ["application/json"]
    assert heard[0]["blocking"] is False


async def test_messages_in_the_middle_of_a_task_are_words_on_the_way(tmp_path: Path) -> None:
    """As agno streams: chunks as messages, the end without words, then the task with the answer in its history."""
    task = {
        "kind": "task", "id": "r1", "contextId": "c1", "status": {"state": "completed"},
        "history": [message("echo: hello")],
    }  # fmt: skip
    told = [update("working"), message("echo: "), message("hello"), update("completed"), task]

    def talk(method: str, params: Json) -> Any:
        return told if method == "message/stream" else JSONResponse({"detail": "Input should be message/stream"}, 400)

    async with other(tmp_path, talk, old_card) as client:
        view = await call(client, "delegate", agent="other", text="hello")
        assert (view["state"], view["output"]) == ("completed", "echo: hello")


async def test_a_breakdown_told_under_a_made_up_id_ends_the_task_with_its_words(tmp_path: Path) -> None:
    """As the JavaScript SDK of 0.3 does when an executor throws."""
    task = {"kind": "task", "id": "r1", "contextId": "c1", "status": {"state": "submitted"}}
    broken = update("failed", "Agent execution error: kaboom", taskId="made-up")

    async with other(tmp_path, lambda *_: [task, update("working", "on it"), broken], old_card) as client:
        view = await call(client, "delegate", agent="other", text="hello")
        assert (view["state"], view["said"]) == ("failed", "Agent execution error: kaboom")


async def test_updates_in_the_words_of_one_version_and_the_place_of_the_other_are_read(tmp_path: Path) -> None:
    """As LangGraph streams: 1.0 throughout, but an update stands where 0.3 has it, and a question is an artifact."""
    ids = {"taskId": "r1", "contextId": "c1"}
    task: Json = {"kind": "task", "id": "r1", "contextId": "c1", "status": {"state": "TASK_STATE_SUBMITTED"}}
    asked = {"artifactId": "q", "name": "Interrupt", "parts": [{"kind": "data", "data": {"value": "Which colour?"}}]}

    def talk(method: str, params: Json) -> Any:
        if method == "GetTask":
            return {**task, "status": {"state": "TASK_STATE_INPUT_REQUIRED"}}
        text = params["message"]["parts"][0]["text"]
        if text == "ask":
            bare = {"state": "TASK_STATE_INPUT_REQUIRED", "timestamp": "2026-11-21T14:52:31"}
            ends = {**ids, "kind": "status-update", "status": bare, "final": True}
            return [{"task": task}, {**ids, "kind": "artifact-update", "artifact": asked}, ends]
        made = {"artifactId": "a", "parts": [{"kind": "text", "text": f"you chose {text}"}]}
        over = {**ids, "kind": "status-update", "status": {"state": "TASK_STATE_COMPLETED"}, "final": True}
        working = {**ids, "kind": "status-update", "status": {"state": "TASK_STATE_WORKING"}}
        return [working, {**ids, "kind": "artifact-update", "artifact": made}, over]

    async with other(tmp_path, talk) as client:
        view = await call(client, "delegate", agent="other", text="ask")
        assert (view["state"], view["question"]) == ("input_required", '{"value": "Which colour?"}')
        done = await call(client, "answer_task", task=view["task"], text="blue")
        assert done["state"] == "completed"
        assert "you chose blue" in done["output"]


async def test_text_that_comes_in_chunks_grows_together(tmp_path: Path) -> None:
    """Strands and others stream an answer word by word, and list each word as a part when the task is asked for."""
    words = ["The disk ", "is ", "full."]
    parts = [{"text": word} for word in words]

    def talk(method: str, params: Json) -> Any:
        task = {"id": "r1", "contextId": "c1", "status": {"state": "TASK_STATE_WORKING"}}
        if method == "GetTask":
            asked = {"state": "TASK_STATE_INPUT_REQUIRED", "message": {"messageId": "q", "parts": [{"text": "More?"}]}}
            return {**task, "status": asked, "artifacts": [{"artifactId": "a", "parts": parts}]}
        if method == "SubscribeToTask":
            return {"code": -32004, "message": "unsupported"}
        chunks = [
            {"taskId": "r1", "contextId": "c1", "artifact": {"artifactId": "a", "parts": [part]}, "append": n > 0}
            for n, part in enumerate(parts)
        ]
        return [{"task": task}, *({"artifactUpdate": chunk} for chunk in chunks)]

    async with other(tmp_path, talk) as client:
        view = await call(client, "delegate", agent="other", text="what is wrong?")
        assert (view["state"], view["question"]) == ("input_required", "More?")
        assert (await call(client, "read_artifact", task=view["task"]))["text_of_it"] == "The disk is full."


async def test_a_long_answer_that_is_no_artifact_can_be_read_to_its_end(tmp_path: Path) -> None:
    long = "word " * 3000 + "end"
    async with other(tmp_path, lambda *_: [update("completed", long)], old_card) as client:
        view = await call(client, "delegate", agent="other", text="tell")
        assert "reads all of it" in view["next"]
        page = await call(client, "read_artifact", task=view["task"])
        assert page["total"] == len(long)
        last = await call(client, "read_artifact", task=view["task"], offset=page["total"] - 3)
        assert last["text_of_it"] == "end"


async def test_an_error_of_the_agents_http_says_what_the_agent_says(tmp_path: Path) -> None:
    """As python-a2a, whose card says 0.3 and whose server knows none of its methods."""
    wrong = {"role": "agent", "parts": [{"type": "data", "data": {"error": "Unknown content type: None"}}]}
    async with other(tmp_path, lambda *_: JSONResponse(wrong, 500), old_card) as client:
        said = (await call(client, "delegate", agent="other", text="hello"))["said"]
        assert said.startswith("other answered 500: ")
        assert "Unknown content type: None" in said


async def test_a_stream_that_ends_too_early_is_said_to(tmp_path: Path) -> None:
    task = {"id": "r1", "contextId": "c1", "status": {"state": "TASK_STATE_WORKING"}}

    def talk(method: str, params: Json) -> Any:
        if method == "SubscribeToTask":
            return {"code": -32004, "message": "unsupported"}
        return task if method == "GetTask" else [{"task": task}]

    async with other(tmp_path, talk) as client:
        view = await call(client, "delegate", agent="other", text="hello", wait_s=0)
        waited = await call(client, "wait_for_task", task=view["task"], wait_s=3)
        assert waited["state"] == "working"
        assert "stream ended before the task did" in waited["said"]


async def test_an_unreadable_card_means_that_nothing_was_sent(tmp_path: Path) -> None:
    async with other(tmp_path, echo, lambda _: {"name": "nothing else"}) as client:
        assert (await call(client, "delegate", agent="other", text="hello"))["said"].endswith("Nothing was sent.")
