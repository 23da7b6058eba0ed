"""What A2A asks, answered from flows. The SDK does the wire (JSON-RPC, REST, 0.3 and 1.0); this knows the meaning."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, Protocol

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
from a2a.types.a2a_pb2 import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import (
    InternalError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.task import apply_history_length, validate_history_length, validate_page_size

from quarterdeck.agents.runtime import tasks
from quarterdeck.agents.runtime.agent import Agent, extended_card
from quarterdeck.agents.runtime.approvals import Approvals
from quarterdeck.agents.runtime.push import Push
from quarterdeck.keel.errors import Away, Denied, Refusal
from quarterdeck.keel.flows import Flow, Item
from quarterdeck.keel.identity import Caller

log = logging.getLogger(__name__)
EVERY_ITEM = 1 << 40
"""A cursor behind all others."""
DEFAULT_PAGE = 50
SCANNED = 10_000
"""A caller's newest tasks that a list looks through."""
LONGEST_ID = 256


class Engine(Protocol):
    """What of an engine of flows is needed here."""

    async def start(self, name: str, argument: dict[str, Any], id: str) -> str: ...
    async def status(self, id: str) -> Flow: ...
    async def items(self, id: str, after: int = 0) -> list[Item]: ...
    async def whole(self, id: str) -> tuple[Flow, list[Item]]: ...
    async def settled(self, id: str, after: int = 0) -> tuple[Flow, list[Item]]: ...
    def watch(self, id: str, after: int = 0) -> AsyncGenerator[Item, None]: ...
    async def list(
        self, *, name: str = "", state: str = "", prefix: str = "", limit: int = 100, offset: int = 0
    ) -> list[Flow]: ...
    async def answer(self, id: str, question: str, answer: dict[str, Any]) -> None: ...
    async def cancel(self, id: str) -> Flow: ...


class Handler(RequestHandler):
    def __init__(self, agent: Agent, card: AgentCard, engine: Engine, approvals: Approvals, push: Push) -> None:
        self._agent, self._card, self._engine = agent, card, engine
        self._approvals, self._push = approvals, push

    # Messages

    @validate_request_params
    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task | Message:
        validate_history_length(params.configuration)
        id, after = await self._accept(params, caller_in(context))
        immediately = params.configuration.return_immediately
        flow, items = await (self._engine.whole(id) if immediately else self._engine.settled(id, after))
        _same(params.message, flow)
        none = params.configuration.HasField("history_length") and not params.configuration.history_length
        found: Task = apply_history_length(tasks.task(flow, items, begin=not none), params.configuration)
        return found

    @validate_request_params
    async def on_message_send_stream(self, params: SendMessageRequest, context: ServerCallContext) -> Any:
        validate_history_length(params.configuration)
        id, after = await self._accept(params, caller_in(context))
        _same(params.message, await self._engine.status(id))
        async with aclosing(self._stream(id, after)) as stream:
            async for event in stream:
                yield event

    async def _accept(self, params: SendMessageRequest, caller: Caller) -> tuple[str, int]:
        """Start a flow, or answer its question. Returns the task's id and the item after which news begins."""
        message = params.message
        if len(message.message_id) > LONGEST_ID or len(message.context_id) > LONGEST_ID:
            raise InvalidParamsError(f"Ids may have at most {LONGEST_ID} characters.")
        if not message.parts:
            raise InvalidParamsError("The message has no parts. Say what to do in a text or a data part.")
        try:
            if message.task_id:
                return await self._reply(message, caller, params)
            return await self._begin(message, caller, params)
        except Denied as error:
            raise UnsupportedOperationError(str(error)) from None
        except Away as error:
            raise InternalError(str(error)) from None
        except Refusal as error:
            raise InvalidParamsError(str(error)) from None

    async def _begin(self, message: Message, caller: Caller, params: SendMessageRequest) -> tuple[str, int]:
        id = tasks.task_id(caller.id, self._agent.name, message)
        argument = {
            **self._agent.read(message),
            "message": tasks.to_dict(message),
            "context": tasks.context_id(caller.id, message),
            "caller": caller.id,
            "scopes": sorted(caller.scopes),
        }
        await self._subscribe_push(id, params)
        await self._engine.start(self._agent.flow, argument, id=id)
        return id, 0

    async def _reply(self, message: Message, caller: Caller, params: SendMessageRequest) -> tuple[str, int]:
        flow = await self._mine(message.task_id, caller)
        if message.context_id and message.context_id != flow.argument["context"]:
            raise InvalidParamsError(f"Task {flow.id} belongs to another context than the message says.")
        items = await self._engine.items(flow.id)
        for item in items:  # sent again: it was taken the first time
            taken = tasks.message_in(item)
            if taken.get("messageId") == message.message_id:
                _check_parts(message, taken)
                return flow.id, item.cursor
        if flow.state in tasks.ENDED:
            raise UnsupportedOperationError(f"Task {flow.id} has ended ({flow.state}). Send a message without taskId.")
        if flow.question is None:
            raise UnsupportedOperationError(f"Task {flow.id} is working and asks nothing now. Wait, or cancel it.")
        await self._subscribe_push(flow.id, params)
        others = sum(1 for item in items if item.kind == "question" and "change_id" in item.data) > 1
        answer = await self._approvals.answer(flow.question, message, caller, others)
        answer["data"] = {**answer["data"], "message": tasks.to_dict(message)}
        await self._engine.answer(flow.id, flow.question.id, answer)
        asked = next((i.cursor for i in reversed(items) if i.question == flow.question.id), len(items))
        return flow.id, asked

    async def _subscribe_push(self, id: str, params: SendMessageRequest) -> None:
        if params.configuration.HasField("task_push_notification_config"):
            await self._push.add(id, params.configuration.task_push_notification_config)

    async def _stream(self, id: str, after: int) -> AsyncGenerator[tasks.Event, None]:
        """The task as it stands, then what happens to it, until it ends or waits for somebody."""
        flow, items = await self._engine.whole(id)
        yield tasks.task(flow, items)
        seen = items[-1].cursor if items else 0
        if flow.state in tasks.ENDED or (flow.question is not None and seen > after):
            return
        async with aclosing(self._engine.watch(id, seen)) as news:
            async for item in news:
                if item.kind == "end":
                    for event in tasks.ending(await self._engine.status(id)):
                        yield event
                    return
                for event in tasks.events(flow, item):
                    yield event
                if item.kind == "question":
                    return

    # Tasks

    @validate_request_params
    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        validate_history_length(params)
        flow = await self._mine(params.id, caller_in(context))
        found: Task = apply_history_length(tasks.task(flow, await self._engine.items(flow.id)), params)
        return found

    @validate_request_params
    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        validate_history_length(params)
        if params.HasField("page_size"):
            validate_page_size(params.page_size)
        size = params.page_size or DEFAULT_PAGE
        state = tasks.NAMES.get(params.status, "") if params.status else ""
        if params.status and not state:
            return ListTasksResponse(page_size=size)
        flows = await self._all(tasks.beginning(caller_in(context).id, params.context_id), state)
        since = (
            params.status_timestamp_after.ToMilliseconds() / 1000 if params.HasField("status_timestamp_after") else 0
        )
        found = [flow for flow in flows if flow.updated >= since]
        found.sort(key=lambda flow: (flow.updated, flow.id), reverse=True)
        rest = found
        if params.page_token:
            place = _read_token(params.page_token)
            rest = [flow for flow in found if (flow.updated, flow.id) < place]
        page = rest[:size]
        made = ListTasksResponse(page_size=size, total_size=len(found))
        for flow in page:
            task = tasks.task(*await self._engine.whole(flow.id))
            if not params.include_artifacts:
                task.ClearField("artifacts")
            made.tasks.append(apply_history_length(task, params))
        if len(rest) > size:
            made.next_page_token = _write_token(page[-1])
        return made

    async def _all(self, prefix: str, state: str) -> list[Flow]:
        found: list[Flow] = []
        while len(found) < SCANNED:
            page = await self._engine.list(
                name=self._agent.flow, state=state, prefix=prefix, limit=500, offset=len(found)
            )
            found += page
            if len(page) < 500:
                break
        return found

    @validate_request_params
    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task | None:
        flow = await self._mine(params.id, caller_in(context))
        if flow.state in tasks.ENDED:
            raise TaskNotCancelableError(f"Task {flow.id} has ended already ({flow.state}).")
        await self._engine.cancel(flow.id)
        await self._approvals.withdraw(flow)
        try:
            with suppress(TimeoutError):  # a step in another process may take two seconds to stop
                async with asyncio.timeout(5):
                    await self._engine.settled(flow.id, EVERY_ITEM)
            task = tasks.task(*await self._engine.whole(flow.id))
        except Refusal:  # what has ended in memory is forgotten soon
            raise TaskNotFoundError from None
        if task.status.state != tasks.STATES["cancelled"]:
            raise TaskNotCancelableError(f"Task {flow.id} ended before it could be cancelled.")
        return task

    @validate_request_params
    async def on_subscribe_to_task(self, params: SubscribeToTaskRequest, context: ServerCallContext) -> Any:
        flow = await self._mine(params.id, caller_in(context))
        if flow.state in tasks.ENDED:
            raise UnsupportedOperationError(f"Task {flow.id} has ended ({flow.state}); get it instead.")
        async with aclosing(self._stream(flow.id, EVERY_ITEM)) as stream:
            async for event in stream:
                yield event

    async def _mine(self, id: str, caller: Caller) -> Flow:
        """The flow behind a task of this caller. Somebody else's task does not exist, as far as anybody can tell."""
        if not id.startswith(tasks.beginning(caller.id)) or len(id) > LONGEST_ID:
            raise TaskNotFoundError
        try:
            flow = await self._engine.status(id)
        except Away as error:  # it may well be there
            raise InternalError(str(error)) from None
        except Refusal:
            raise TaskNotFoundError from None
        if flow.name != self._agent.flow:
            raise TaskNotFoundError
        return flow

    # Push notifications

    @validate_request_params
    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        flow = await self._mine(params.task_id, caller_in(context))
        try:
            return await self._push.add(flow.id, params)
        except Refusal as error:
            raise InvalidParamsError(str(error)) from None

    @validate_request_params
    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        flow = await self._mine(params.task_id, caller_in(context))
        for config in await self._push.of(flow.id):
            if config.id == params.id:
                return config
        raise TaskNotFoundError(f"Task {flow.id} has no push configuration {params.id[:80]!r}.")

    @validate_request_params
    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        flow = await self._mine(params.task_id, caller_in(context))
        return ListTaskPushNotificationConfigsResponse(configs=await self._push.of(flow.id))

    @validate_request_params
    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        flow = await self._mine(params.task_id, caller_in(context))
        await self._push.remove(flow.id, params.id)

    @validate_request_params
    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        return extended_card(self._agent, self._card)


def _same(message: Message, flow: Flow) -> None:
    """Refuse another message under the id of the one that began the task: it would never be read."""
    if not message.task_id:
        _check_parts(message, flow.argument["message"])


def _check_parts(message: Message, taken: dict[str, Any]) -> None:
    if tasks.to_dict(message).get("parts") != taken.get("parts"):
        raise InvalidParamsError(
            f"Another message was sent under the id {message.message_id[:80]!r} before. Send this one under a new id."
        )


def caller_in(context: ServerCallContext) -> Caller:
    caller = context.state.get("caller")
    if not isinstance(caller, Caller):  # the door puts it there; without it nobody is let in
        raise InternalError("Nobody said who is calling.")
    return caller


def _write_token(flow: Flow) -> str:
    return base64.urlsafe_b64encode(json.dumps([flow.updated, flow.id]).encode()).decode()


def _read_token(token: str) -> tuple[float, str]:
    try:
        updated, id = json.loads(base64.urlsafe_b64decode(token.encode()))
        if not (isinstance(updated, float) and math.isfinite(updated) and isinstance(id, str)):
            raise ValueError
        return updated, id
    except (ValueError, TypeError, RecursionError):
        raise InvalidParamsError("That page token is not one of ours. Start again without it.") from None
