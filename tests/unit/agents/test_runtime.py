"""An agent as A2A clients meet it: tasks, streams, questions, cancelling, who may see what."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest
from a2a.client.client import Client
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import A2AError, InvalidParamsError, TaskNotFoundError, UnsupportedOperationError

from quarterdeck.agents.runtime.tasks import data_part
from quarterdeck.agents.runtime.tasks import task as task_of
from quarterdeck.keel.changes import Change, Changes, Target
from quarterdeck.keel.flows import Flow, Item, Question
from quarterdeck.keel.identity import Caller

from .conftest import Serve, runs, said

BINDINGS = ("JSONRPC", "HTTP+JSON")
TOKENS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("kim", "lee", "boss")}
HTTP = {
    "tokens": [
        {"name": "kim", "sha256": TOKENS["kim"], "scopes": ["read", "change"]},
        {"name": "lee", "sha256": TOKENS["lee"], "scopes": ["read"]},
        {"name": "boss", "sha256": TOKENS["boss"], "scopes": ["read", "change", "approve"]},
    ]
}


async def last(client: Client, request: Any) -> Task:
    """The task after everything that the stream told of it."""
    task = Task()
    async for response in client.send_message(request):
        match response.WhichOneof("payload"):
            case "task":
                task.CopyFrom(response.task)
            case "status_update":
                task.status.CopyFrom(response.status_update.status)
            case "artifact_update":
                task.artifacts.append(response.artifact_update.artifact)
    return task


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("streaming", [True, False])
async def test_a_message_becomes_a_task_that_ends_with_its_artifact(
    serve: Serve, binding: str, streaming: bool
) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http, binding=binding, streaming=streaming)
        task = await last(client, said("hello there"))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert task.status.message.parts[0].text == "You said hello there"
        assert [part.text for part in task.artifacts[0].parts] == ["hello there"]
        again = await client.get_task(GetTaskRequest(id=task.id))
        assert again.history[0].parts[0].text == "hello there"
        assert again.artifacts == task.artifacts


async def test_a_message_that_is_sent_twice_does_its_work_once(serve: Serve) -> None:
    runs.clear()
    async with serve() as served, served.http() as http:
        client = await served.client(http, streaming=False)
        tasks = [await last(client, said("once", message_id="m-1")) for _ in range(3)]
        assert len({task.id for task in tasks}) == 1
        assert len({task.context_id for task in tasks}) == 1
        other = await last(client, said("once", message_id="m-2"))
        assert other.id != tasks[0].id
    assert runs == ["once", "once"]


async def test_a_stream_tells_progress_in_order_and_artifacts_as_they_are_made(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http)
        texts, artifacts = [], []
        async for response in client.send_message(said("talk")):
            if response.HasField("status_update"):
                texts.append(response.status_update.status.message.parts[0].text)
            if response.HasField("artifact_update"):
                artifacts.append(response.artifact_update.artifact.artifact_id)
            if response.HasField("task"):
                texts += [part.text for part in response.task.status.message.parts]
        assert texts[-1] == "You said talk"
        assert [text for text in texts if text.startswith("part")][-1] == "part 2"
        assert artifacts[-2:] == ["page", "result-1"]


async def test_a_question_waits_for_an_answer_to_its_task_and_takes_the_first(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http, streaming=False)
        asked = await last(client, said("ask"))
        assert asked.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert asked.status.message.parts[0].text == "Which colour?"
        assert asked.status.message.parts[1].data.struct_value["choices"][0] == "red"
        reply = said("blue", message_id="reply", task_id=asked.id, context_id=asked.context_id)
        done = await last(client, reply)
        assert done.status.message.parts[0].text == "blue by http:anyone-on-this-machine"
        assert (await last(client, reply)).id == done.id, "the same answer sent again is the same answer"
        with pytest.raises(UnsupportedOperationError, match="has ended"):
            await last(client, said("red", message_id="late", task_id=asked.id))
        history = (await client.get_task(GetTaskRequest(id=asked.id))).history
        assert [message.parts[0].text for message in history] == ["ask", "Which colour?", "blue"]


async def test_a_working_task_can_be_picked_up_again_and_cancelled(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http, streaming=False)
        request = said("slow")
        request.configuration.return_immediately = True
        task = await last(client, request)
        assert task.status.state == TaskState.TASK_STATE_WORKING
        watcher = await served.client(http)
        stream = watcher.subscribe(SubscribeToTaskRequest(id=task.id))
        assert (await anext(stream)).task.id == task.id
        cancelled = await client.cancel_task(CancelTaskRequest(id=task.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        seen = [response async for response in stream]
        assert seen[-1].status_update.status.state == TaskState.TASK_STATE_CANCELED
        with pytest.raises(A2AError):
            await client.cancel_task(CancelTaskRequest(id=task.id))


async def test_a_failure_is_told_in_its_own_words(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        task = await last(await served.client(http, streaming=False), said("fail"))
        assert task.status.state == TaskState.TASK_STATE_FAILED
        assert task.status.message.parts[0].text == "The machine is out of paper."


async def test_tasks_are_listed_newest_first_page_by_page_and_by_context_and_state(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        client = await served.client(http, streaming=False)
        for number in range(5):
            await last(client, said(f"number {number}", context_id="one" if number % 2 else "two"))
        await last(client, said("fail", context_id="two"))
        page = await client.list_tasks(ListTasksRequest(page_size=4))
        assert (page.total_size, len(page.tasks)) == (6, 4)
        assert page.tasks[0].status.state == TaskState.TASK_STATE_FAILED
        assert not page.tasks[1].artifacts
        rest = await client.list_tasks(ListTasksRequest(page_size=4, page_token=page.next_page_token))
        assert {task.id for task in rest.tasks}.isdisjoint({task.id for task in page.tasks})
        assert len(rest.tasks) == 2
        assert not rest.next_page_token
        assert (await client.list_tasks(ListTasksRequest(context_id="one"))).total_size == 2
        failed = await client.list_tasks(ListTasksRequest(status=TaskState.TASK_STATE_FAILED))
        assert failed.total_size == 1
        since = ListTasksRequest(status_timestamp_after=page.tasks[1].status.timestamp)
        assert [task.id for task in (await client.list_tasks(since)).tasks] == [task.id for task in page.tasks[:2]]
        times = [task.status.timestamp.ToMilliseconds() for task in [*page.tasks, *rest.tasks]]
        assert times == sorted(times, reverse=True)
        with pytest.raises(InvalidParamsError):
            await client.list_tasks(ListTasksRequest(page_token="!!"))


async def test_clients_of_the_older_protocol_are_served_too(serve: Serve) -> None:
    message = {"messageId": "old", "role": "user", "kind": "message", "parts": [{"kind": "text", "text": "hello"}]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": message}}
    async with serve() as served, served.http() as http:
        card = (await http.get("/echo/.well-known/agent-card.json")).json()
        assert card["url"] == f"{served.url}/echo/"
        http.headers.pop("a2a-version")
        result = (await http.post("/echo/", json=body)).json()["result"]
        assert (result["kind"], result["status"]["state"]) == ("task", "completed")
        stored = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"id": result["id"]}}
        assert (await http.post("/echo/", json=stored)).json()["result"]["id"] == result["id"]


async def test_nobody_comes_in_without_a_token_and_nobody_sees_another_ones_tasks(serve: Serve) -> None:
    async with serve(http=HTTP) as served:
        async with served.http() as http:
            assert (await http.get("/echo/.well-known/agent-card.json")).status_code == 200
            assert (await http.post("/echo/", json={})).status_code == 401
            assert (await http.get("/echo/tasks")).status_code == 401
        async with served.http("wrong") as http:
            assert (await http.get("/echo/tasks")).status_code == 401
        async with served.http("kim") as kim, served.http("lee") as lee:
            mine = await served.client(kim, streaming=False)
            task = await last(mine, said("hello", message_id="same"))
            other = await served.client(lee, streaming=False)
            for attempt in (
                other.get_task(GetTaskRequest(id=task.id)),
                other.cancel_task(CancelTaskRequest(id=task.id)),
                last(other, said("more", task_id=task.id)),
            ):
                with pytest.raises(TaskNotFoundError):
                    await attempt
            assert (await other.list_tasks(ListTasksRequest())).total_size == 0
            assert (await last(other, said("hello", message_id="same"))).id != task.id
            extended = await mine.get_extended_agent_card(GetExtendedAgentCardRequest())
            assert [skill.id for skill in extended.skills] == ["echo", "secret"]


async def test_only_a_caller_with_the_approvers_scope_grants_by_a_message(serve: Serve) -> None:
    async with serve(http=HTTP) as served:
        changes = Changes.of(served.settings)
        change = Change("lever", "pull", "pull it", (Target("Lever", "one"),), "down", "up", "push it", "up")
        pending = changes.request(change, Caller("agent:echo"))
        async with served.http("kim") as kim:
            client = await served.client(kim, streaming=False)
            task = await last(client, said(f"change {pending.id}"))
            assert task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
            for number, word in enumerate(("yes", "승인", "approve")):
                with pytest.raises(UnsupportedOperationError, match="may not approve"):
                    await last(client, said(word, message_id=f"try-{number}", task_id=task.id))
            with pytest.raises(InvalidParamsError, match="yes or no"):
                await last(client, said("whatever", task_id=task.id))
            assert changes.get(pending.id).state == "pending"
        async with served.http("boss") as boss:
            client = await served.client(boss, streaming=False)
            own = await last(client, said(f"change {pending.id}"))
            done = await last(client, said("yes", message_id="grant", task_id=own.id))
            assert done.status.message.parts[0].text == "decided: yes"
        granted = changes.get(pending.id)
        assert (granted.state, granted.granted_by) == ("granted", "boss over A2A")


async def test_a_yes_to_one_change_grants_no_other(serve: Serve) -> None:
    async with serve(http=HTTP) as served:
        changes = Changes.of(served.settings)
        change = Change("lever", "pull", "pull it", (Target("Lever", "one"),), "down", "up", "push it", "up")
        pending = changes.request(change, Caller("agent:echo"))
        async with served.http("boss") as boss:
            client = await served.client(boss, streaming=False)
            task = await last(client, said(f"change {pending.id}"))
            for number, (text, data) in enumerate(
                [("yes ch-aaaaaaaa", None), ("no, do not", {"approve": True}), ("yes", {"change_id": "ch-aaaaaaaa"})]
            ):
                request = said(text, message_id=f"other-{number}", task_id=task.id)
                if data:
                    request.message.parts.append(data_part(data))
                with pytest.raises(InvalidParamsError):
                    await last(client, request)
            assert changes.get(pending.id).state == "pending"
            done = await last(client, said(f"yes {pending.id}", message_id="this-one", task_id=task.id))
            assert done.status.message.parts[0].text == "decided: yes"


async def test_a_cancelled_task_leaves_nothing_that_could_still_be_approved(serve: Serve) -> None:
    async with serve() as served, served.http() as http:
        changes = Changes.of(served.settings)
        change = Change("lever", "pull", "pull it", (Target("Lever", "one"),), "down", "up", "push it", "up")
        pending = changes.request(change, Caller("agent:echo"))
        client = await served.client(http, streaming=False)
        task = await last(client, said(f"change {pending.id}"))
        await client.cancel_task(CancelTaskRequest(id=task.id))
        assert changes.get(pending.id).state == "expired"
        assert changes.waiting() == []


async def test_a_token_without_the_scope_to_read_is_let_in_nowhere(serve: Serve) -> None:
    none = {"name": "none", "sha256": hashlib.sha256(b"none").hexdigest(), "scopes": []}
    async with serve(http={"tokens": [none]}) as served, served.http("none") as http:
        assert (await http.get("/echo/tasks")).status_code == 403
        assert (await http.post("/echo/", json={})).status_code == 403


@pytest.mark.parametrize("decision", ["yes", "no"])
async def test_a_decision_in_the_terminal_reaches_the_waiting_task(serve: Serve, decision: str) -> None:
    async with serve() as served, served.http() as http:
        changes = Changes.of(served.settings)
        change = Change("lever", "pull", "pull it", (Target("Lever", "one"),), "down", "up", "push it", "up")
        pending = changes.request(change, Caller("agent:echo"))
        client = await served.client(http, streaming=False)
        task = await last(client, said(f"change {pending.id}"))
        watcher = (await served.client(http)).subscribe(SubscribeToTaskRequest(id=task.id))
        await anext(watcher)
        if decision == "yes":
            changes.grant(pending.id, by="kim in a terminal")
        else:
            changes.decline(pending.id, "kim in a terminal", final=True)
        seen = [response async for response in watcher]
        assert seen[-1].status_update.status.message.parts[0].text == f"decided: {decision}"


@pytest.mark.parametrize(
    ("send", "status"),
    [
        ({"content": b"x" * (3 << 20)}, 413),
        ({"content": b"{"}, 200),
        ({"json": {"jsonrpc": "2.0", "id": 1, "method": "Nope"}}, 200),
        ({"json": [1, 2]}, 200),
        ({"json": {}, "headers": {"host": "evil.example"}}, 421),
        ({"json": {}, "headers": {"origin": "https://evil.example"}}, 403),
    ],
)
async def test_what_is_no_request_is_refused_in_words(serve: Serve, send: dict[str, Any], status: int) -> None:
    async with serve() as served, served.http() as http:
        response = await http.post("/echo/", **send)
        assert response.status_code == status
        assert "Traceback" not in response.text
        if status == 200:
            assert response.json()["error"]["code"] < 0
        assert (await http.get("/healthz")).text == "ok\n"


@pytest.mark.parametrize("path", ["/echo/.well-known/agent-card.json", "/.well-known/agent-card.json"])
async def test_the_card_says_where_and_how_the_agent_is_reached(serve: Serve, path: str) -> None:
    async with serve() as served, served.http() as http:
        response: httpx.Response = await http.get(path)
        card = response.json()
        assert {one["protocolBinding"] for one in card["supportedInterfaces"]} == {"JSONRPC", "HTTP+JSON"}
        assert card["capabilities"] == {"streaming": True, "pushNotifications": True, "extendedAgentCard": True}
        assert response.headers["etag"]


def test_a_question_that_was_answered_between_two_looks_is_not_asked_any_more() -> None:
    question = Question("q1", "f", "Which colour?", {}, 0.0, 9.0)
    flow = Flow("f", "n", "waiting", 0.0, 1.0, "", question, argument={"message": {"messageId": "m"}, "context": "c"})
    asked = Item(1, "question", "Which colour?", 0.5, question="q1")
    answered = Item(2, "answer", "blue", 0.9, data={"by": "kim", "text": "blue"}, question="q1")
    assert task_of(flow, [asked]).status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    assert task_of(flow, [asked, answered]).status.state == TaskState.TASK_STATE_WORKING
