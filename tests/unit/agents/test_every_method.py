"""Every method of the protocol, by the SDK's own client: both bindings, both versions, both engines."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types.a2a_pb2 import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import A2AError
from google.protobuf.json_format import ParseDict
from receiver import receiver

from .conftest import Serve, Served, said
from .test_runtime import last

WAYS = pytest.mark.parametrize("version", ["1.0", "0.3"]), pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON"])
pytestmark = list(WAYS)


@asynccontextmanager
async def speaking(served: Served, binding: str, version: str, *, streaming: bool = True) -> AsyncIterator[Client]:
    """A client that knows one interface of the agent only, and speaks it."""
    sent: list[str] = []

    async def note(request: httpx.Request) -> None:
        sent.append(f"{request.url.path} {request.content.decode()}")

    async with httpx.AsyncClient(timeout=20, event_hooks={"request": [note]}) as http:
        found = (await http.get(f"{served.url}/echo/.well-known/agent-card.json")).json()
        card = ParseDict(found, AgentCard(), ignore_unknown_fields=True)
        (chosen,) = (
            one
            for one in card.supported_interfaces
            if (one.protocol_binding, one.protocol_version) == (binding, version)
        )
        only = type(chosen)()
        only.CopyFrom(chosen)
        del card.supported_interfaces[:]
        card.supported_interfaces.append(only)
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], streaming=streaming)
        yield ClientFactory(config).create(card)
        older = re.compile(r'"method": ?"\w+/' if binding == "JSONRPC" else "/echo/v1/")
        assert {bool(older.search(request)) for request in sent[1:]} == {version == "0.3"}, sent


async def test_a_message_is_sent_and_its_task_is_read(serve: Serve, binding: str, version: str) -> None:
    async with serve() as served, speaking(served, binding, version, streaming=False) as client:
        task = await last(client, said("hello"))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        again = await client.get_task(GetTaskRequest(id=task.id))
        assert again.artifacts[0].parts[0].text == "hello"
        assert [message.parts[0].text for message in again.history] == ["hello"]
        if version == "1.0":
            assert (await client.list_tasks(ListTasksRequest())).tasks[0].id == task.id
        with pytest.raises(A2AError):
            await client.get_task(GetTaskRequest(id="unknown"))


async def test_a_message_is_streamed_answered_and_its_task_picked_up(serve: Serve, binding: str, version: str) -> None:
    async with serve() as served, speaking(served, binding, version) as client:
        task = await last(client, said("talk"))
        assert task.status.message.parts[0].text == "You said talk"
        assert [artifact.artifact_id for artifact in task.artifacts] == ["page", "result-1"]
        asked = await last(client, said("ask"))
        assert asked.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        stream = client.subscribe(SubscribeToTaskRequest(id=asked.id))
        assert (await anext(stream)).task.id == asked.id
        done = await last(client, said("blue", task_id=asked.id, context_id=asked.context_id))
        assert done.status.state == TaskState.TASK_STATE_COMPLETED
        assert [one async for one in stream][-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


async def test_a_task_is_cancelled_once(serve: Serve, binding: str, version: str) -> None:
    async with serve() as served, speaking(served, binding, version, streaming=False) as client:
        request = said("slow")
        request.configuration.return_immediately = True
        task = await last(client, request)
        assert task.status.state == TaskState.TASK_STATE_WORKING
        assert (await client.cancel_task(CancelTaskRequest(id=task.id))).status.state == TaskState.TASK_STATE_CANCELED
        with pytest.raises(A2AError):
            await client.cancel_task(CancelTaskRequest(id=task.id))


async def test_notifications_are_subscribed_to_looked_at_and_ended(serve: Serve, binding: str, version: str) -> None:
    async with receiver() as inbox, serve(agents={"push_allow": [inbox.url]}) as served:  # noqa: SIM117
        async with speaking(served, binding, version, streaming=False) as client:
            task = await last(client, said("ask"))
            named = {"task_id": task.id, "id": "mine"}
            wanted = TaskPushNotificationConfig(**named, url=f"{inbox.url}/hook", token="t0ken")
            made = await client.create_task_push_notification_config(wanted)
            assert (made.id, made.task_id, made.url) == ("mine", task.id, wanted.url)
            assert await inbox.has(1) == ["input_required: Which colour?"]
            assert inbox.notes[0].headers["x-a2a-notification-token"] == "t0ken"
            read = await client.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(**named))
            assert read.url == wanted.url
            if (binding, version) != ("HTTP+JSON", "0.3"):  # the older REST client has neither
                listed = ListTaskPushNotificationConfigsRequest(task_id=task.id)
                assert len((await client.list_task_push_notification_configs(listed)).configs) == 1
                await client.delete_task_push_notification_config(DeleteTaskPushNotificationConfigRequest(**named))
                assert not (await client.list_task_push_notification_configs(listed)).configs


async def test_the_extended_card_tells_more(serve: Serve, binding: str, version: str) -> None:
    async with serve() as served, speaking(served, binding, version) as client:
        card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
        assert [skill.id for skill in card.skills] == ["echo", "secret"]
