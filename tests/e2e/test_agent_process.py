"""Agents as processes: killed at work and started again, and two of them over one home."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from receiver import receiver

PROGRAM = Path(__file__).parents[1] / "data" / "small_agent.py"
ENDED = (TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELED)


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    client: Client
    streaming: Client

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@dataclass
class Home:
    path: Path
    stack: AsyncExitStack
    push: list[str] = field(default_factory=list)
    started: int = 0

    async def start(self) -> Running:
        self.started += 1
        with (self.path / f"log-{self.started}").open("w") as log:
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, str(PROGRAM), str(self.path), *self.push],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.stack.callback(_stop, process)
        assert process.stdout is not None
        url = (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)).strip()
        http = await self.stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"a2a-version": "1.0"}, timeout=30)
        )
        async with asyncio.timeout(30):
            while not await _well(http):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.05)
        whole, streaming = [
            await ClientFactory(ClientConfig(httpx_client=http, streaming=kind)).create_from_url(f"{url}/small")
            for kind in (False, True)
        ]
        return Running(process, url, whole, streaming)

    def happened(self, task: str) -> Counter[str]:
        try:
            lines = (self.path / "happened").read_text().splitlines()
        except FileNotFoundError:
            return Counter()
        return Counter(line.split()[1] for line in lines if line.split()[0] == task)

    async def waits(self, task: str) -> None:
        async with asyncio.timeout(30):
            while not self.happened(task)["waits"]:  # noqa: ASYNC110  another process
                await asyncio.sleep(0.02)

    def open(self, task: str) -> None:
        (self.path / f"gate-{task}").touch()


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)
    if process.stdout:
        process.stdout.close()


async def _well(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).text == "ok\n"
    except httpx.HTTPError:
        return False


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with AsyncExitStack() as stack:
        yield Home(tmp_path, stack)


async def send(client: Client, text: str, id: str, *, wait: bool = False, **more: Any) -> Task:
    message = Message(message_id=id, role=Role.ROLE_USER, parts=[Part(text=text)], **more)
    request = SendMessageRequest(message=message)
    request.configuration.return_immediately = not wait
    async for response in client.send_message(request):
        return response.task
    raise AssertionError("nothing came back")


async def state(client: Client, task: str, *wanted: int) -> Task:
    """The task as soon as it stands so."""
    async with asyncio.timeout(30):
        while True:
            found = await client.get_task(GetTaskRequest(id=task))
            if found.status.state in wanted:
                return found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(running: Running, task: str) -> AsyncIterator[asyncio.Task[list[Any]]]:
    """What a stream of this task tells until it ends; entered when its first word was heard."""
    stream = running.streaming.subscribe(SubscribeToTaskRequest(id=task))
    async with asyncio.timeout(40):
        seen = [await anext(stream)]

        async def rest() -> list[Any]:
            return seen + [response async for response in stream]

        yield asyncio.create_task(rest())


async def test_a_killed_agents_task_goes_on_by_itself_and_its_stream_is_picked_up(home: Home) -> None:
    first = await home.start()
    task = await send(first.client, "work", "m-1")
    await home.waits(task.id)
    first.kill()
    second = await home.start()
    found = await state(second.client, task.id, TaskState.TASK_STATE_WORKING)
    assert found.history[0].parts[0].text == "work"
    async with watched(second, task.id) as stream:
        home.open(task.id)
        seen = await stream
    assert seen[0].task.id == task.id
    assert [one.artifact_update.artifact.name for one in seen if one.HasField("artifact_update")] == ["page"]
    assert seen[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    done = await state(second.client, task.id, *ENDED)
    assert (done.status.message.parts[0].text, done.artifacts[0].parts[0].text) == ("done", "# Done")
    assert home.happened(task.id)["first"] == home.happened(task.id)["last"] == 1


async def test_a_message_sent_again_around_a_kill_starts_nothing_twice(home: Home) -> None:
    first = await home.start()
    sending = [asyncio.create_task(send(first.client, "work", "m-1", wait=True)) for _ in range(5)]
    task = await send(first.client, "work", "m-1")
    await home.waits(task.id)
    first.kill()
    for outcome in await asyncio.gather(*sending, return_exceptions=True):
        assert isinstance(outcome, Exception), "whoever waited knows that the connection broke"
    second = await home.start()
    again = [asyncio.create_task(send(second.client, "work", "m-1", wait=True)) for _ in range(5)]
    home.open(task.id)
    done = await asyncio.gather(*again)
    assert {one.id for one in done} == {task.id}
    assert {one.status.state for one in done} == {TaskState.TASK_STATE_COMPLETED}
    assert (await second.client.list_tasks(ListTasksRequest())).total_size == 1
    assert home.happened(task.id)["first"] == home.happened(task.id)["last"] == 1


async def test_an_answer_given_right_before_a_kill_is_not_lost(home: Home) -> None:
    running = await home.start()
    for number in range(2):
        task = await send(running.client, "ask", f"m-{number}", wait=True)
        assert task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        await send(running.client, "blue", f"answer-{number}", task_id=task.id)
        running.kill()
        running = await home.start()
        again = await send(running.client, "blue", f"answer-{number}", task_id=task.id)
        assert again.id == task.id, "the same answer sent again is the same answer"
        done = await state(running.client, task.id, *ENDED)
        assert done.status.message.parts[0].text == "done blue"
        assert home.happened(task.id)["last"] == 1


async def test_a_question_is_still_asked_after_a_kill(home: Home) -> None:
    first = await home.start()
    task = await send(first.client, "ask", "m-1", wait=True)
    first.kill()
    second = await home.start()
    found = await state(second.client, task.id, TaskState.TASK_STATE_INPUT_REQUIRED)
    assert found.status.message.parts[0].text == "Which colour?"
    done = await send(second.client, "red", "answer", wait=True, task_id=task.id)
    assert done.status.message.parts[0].text == "done red"


async def test_two_processes_over_one_home_see_stream_answer_and_cancel_each_others_tasks(home: Home) -> None:
    one, other = await asyncio.gather(home.start(), home.start())
    asked = await send(one.client, "ask", "m-ask", wait=True)
    async with watched(one, asked.id) as stream:
        done = await send(other.client, "green", "answer", wait=True, task_id=asked.id)
        assert done.status.message.parts[0].text == "done green"
        assert (await stream)[-1].status_update.status.message.parts[0].text == "done green"
    working = await send(one.client, "work", "m-work")
    await home.waits(working.id)
    async with watched(other, working.id) as stream:
        home.open(working.id)
        seen = await stream
    assert seen[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert any(response.status_update.status.message.parts[0].text == "nearly done" for response in seen[1:-1])
    stopped = await send(one.client, "work", "m-stop")
    await home.waits(stopped.id)
    async with watched(one, stopped.id) as stream:
        cancelled = await other.client.cancel_task(CancelTaskRequest(id=stopped.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        assert (await stream)[-1].status_update.status.state == TaskState.TASK_STATE_CANCELED
    same = await asyncio.gather(*[send(side.client, "ask", "m-same") for side in (one, other) * 4])
    assert len({task.id for task in same}) == 1
    for side in (one, other):
        listed = (await side.client.list_tasks(ListTasksRequest())).tasks
        assert {task.id for task in listed} == {asked.id, working.id, stopped.id, same[0].id}
    assert home.happened(stopped.id)["last"] == 0
    assert home.happened(same[0].id)["first"] == 1


@pytest.mark.parametrize("heirs", ["the next start", "another process"])
async def test_notifications_go_on_after_a_kill_and_none_is_lost(home: Home, heirs: str) -> None:
    async with receiver() as inbox:
        home.push.append(inbox.url)
        first = await home.start()
        if heirs == "another process":
            await home.start()
        inbox.always = 503
        task = await send(first.client, "work", "m-1")
        config = TaskPushNotificationConfig(task_id=task.id, url=f"{inbox.url}/hook")
        await first.client.create_task_push_notification_config(config)
        await home.waits(task.id)
        await inbox.has(2)
        first.kill()
        inbox.notes.clear()
        inbox.always = 204
        home.open(task.id)
        if heirs == "the next start":
            await home.start()
        assert await inbox.ended(40) == ["working: begun", "working: nearly done", "result-1", "completed: done"]
