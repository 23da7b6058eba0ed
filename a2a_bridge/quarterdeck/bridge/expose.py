"""The reverse way: any MCP server as an A2A agent. Its tools are the agent's skills; its card is made from them.

Which tool is meant is said by a data part `{"tool": …, "arguments": {…}}`, or by the skill named in the message's
metadata (`skillId`) with the arguments as data or, where one text is all it needs, as text. Tools that are not marked
read-only need a bearer token with the scope `change`; while no such token exists they are left out of the card.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from a2a.helpers.proto_helpers import (
    new_data_part,
    new_raw_part,
    new_task_from_user_message,
    new_text_part,
    new_url_part,
)
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers.default_request_handler_v2 import DefaultRequestHandlerV2
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    Part,
    SecurityRequirement,
    SecurityScheme,
    StringList,
    TaskState,
)
from fastmcp import Client
from fastmcp.server.http import HostOriginGuardMiddleware
from google.protobuf.json_format import MessageToDict
from mcp_types import Tool
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from quarterdeck.bridge.dialect import whole
from quarterdeck.keel import identity
from quarterdeck.keel.answers import clip, one_line, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import Settings

LONGEST_CALL_S = 1200.0
MOST_TOOLS = 200
LARGEST_BODY = 8 << 20
WELL_KNOWN = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""The second is where clients from before 0.3 look."""


@dataclass(frozen=True)
class Exposed:
    """What is shown of a server, and what is not."""

    name: str
    about: str
    version: str
    tools: dict[str, Tool]
    left_out: list[str]


async def look_at(client: Client[Any], settings: Settings, name: str) -> Exposed:
    """The server's tools, without those that nobody could be allowed to call."""
    tools = (await client.list_tools())[:MOST_TOOLS]
    may_change = bool(settings.http.jwks_url) or any("change" in token.scopes for token in settings.http.tokens)
    shown = {tool.name: tool for tool in tools if not changes(tool) or (may_change and not settings.read_only)}
    told = client.initialize_result
    information = getattr(told, "server_info", None)
    name = one_line(str(getattr(information, "name", "") or name))[:80]
    about = clip(one_line(getattr(told, "instructions", "") or f"The MCP server {name}."), 1000)
    version = one_line(str(getattr(information, "version", "") or "0"))[:40]
    return Exposed(name, about, version, shown, [tool.name for tool in tools if tool.name not in shown])


def changes(tool: Tool) -> bool:
    return not (tool.annotations and tool.annotations.read_only_hint)


def card_of(exposed: Exposed, url: str, *, guarded: bool) -> AgentCard:
    card = AgentCard(
        name=exposed.name,
        description=exposed.about,
        version=exposed.version,
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version=version)
            for binding, version in (("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"))
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["application/json", "text/plain"],
        default_output_modes=["application/json", "text/plain"],
        skills=[_skill(tool) for tool in exposed.tools.values()],
    )
    if guarded:
        card.security_schemes["bearer"].CopyFrom(
            SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="bearer"))
        )
        card.security_requirements.append(SecurityRequirement(schemes={"bearer": StringList()}))
    return card


def _skill(tool: Tool) -> AgentSkill:
    needed = tool.input_schema.get("required", [])
    arguments = ", ".join(
        f"{name}{'' if name in needed else '?'}" for name in list(tool.input_schema.get("properties", {}))[:20]
    )
    about = one_line(tool.description or tool.title or tool.name)
    return AgentSkill(
        id=tool.name,
        name=one_line(tool.title or tool.name)[:80],
        description=clip(f"{about} Arguments: {arguments or 'none'}.", 600),
        tags=["changes" if changes(tool) else "reads"],
        examples=[json.dumps({"tool": tool.name, "arguments": dict.fromkeys(needed[:5], "…")}, ensure_ascii=False)],
    )


class ToolCaller(AgentExecutor):
    """One task is one call of one tool."""

    def __init__(self, client: Client[Any], exposed: Exposed) -> None:
        self._client, self._exposed = client, exposed
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def execute(self, context: Any, event_queue: Any) -> None:
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        try:
            name, arguments = self._meant(MessageToDict(context.message))
            tool = self._exposed.tools.get(name)
            if tool is None:
                raise Refusal(f"There is no tool {one_line(name)[:60]!r} here. The card lists them as skills.")
            auth = context.call_context.state.get("auth")
            if changes(tool) and (auth is None or "change" not in auth.scopes):
                await self._end(
                    updater, updater.reject, f"{name} changes something: a token with scope change is needed."
                )
                return
        except Refusal as error:
            await self._end(updater, updater.reject, str(error))
            return
        await updater.start_work()

        async def report(progress: float, total: float | None, message: str | None) -> None:
            share = f"{progress:g}" + (f" of {total:g}" if total else "")
            said = redact(clip(plain(message or share), 500))
            await updater.update_status(TaskState.TASK_STATE_WORKING, updater.new_agent_message([new_text_part(said)]))

        call = self._client.call_tool_mcp(name, arguments, progress_handler=report)
        running = self._running[context.task_id] = asyncio.ensure_future(call)
        try:
            async with asyncio.timeout(LONGEST_CALL_S):
                result = await running
        except TimeoutError:
            await self._end(updater, updater.failed, f"{name} took longer than {LONGEST_CALL_S:.0f} s.")
            return
        except asyncio.CancelledError:
            running.cancel()
            raise
        except Exception as error:  # whatever a stranger's server does, the task ends with a sentence
            await self._end(updater, updater.failed, f"The server broke off ({type(error).__name__}).")
            return
        finally:
            self._running.pop(context.task_id, None)
        if result.is_error:
            words = " ".join(getattr(block, "text", "") for block in result.content)
            await self._end(updater, updater.failed, words or f"{name} failed.")
            return
        await updater.add_artifact(_parts(result), name=name)
        await updater.complete()

    async def cancel(self, context: Any, event_queue: Any) -> None:
        running = self._running.pop(context.task_id, None)
        if running is not None:
            running.cancel()
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    async def _end(self, updater: TaskUpdater, how: Callable[..., Awaitable[None]], words: str) -> None:
        said = redact(clip(plain(words), 1000))
        await how(updater.new_agent_message([new_text_part(said)]))

    def _meant(self, message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The tool and its arguments; a Refusal that says how to name one."""
        parts = message.get("parts", [])
        data = next((part["data"] for part in parts if isinstance(part.get("data"), dict)), None)
        text = "\n".join(part["text"] for part in parts if "text" in part).strip()
        if data is None and text.startswith("{"):
            try:
                read = json.loads(text)
            except (ValueError, RecursionError):
                read = None
            data, text = (read, "") if isinstance(read, dict) else (None, text)
        if data is not None and isinstance(data.get("tool"), str):
            arguments = data.get("arguments") or {}
            if not isinstance(arguments, dict):
                raise Refusal("`arguments` must be an object.")
            return data["tool"], whole(arguments)
        skill = message.get("metadata", {}).get("skillId")
        if skill is None and text in self._exposed.tools:
            skill, text = text, ""
        if not isinstance(skill, str):
            raise Refusal('Say which tool: {"tool": "…", "arguments": {…}} as data, or its name. The card lists them.')
        if data is not None:
            return skill, whole(data)
        tool = self._exposed.tools.get(skill)
        needed = tool.input_schema.get("required", []) if tool else []
        if text and len(needed) == 1 and tool is not None:
            return skill, {needed[0]: text}
        return skill, {}


def _parts(result: Any) -> list[Part]:
    import base64

    parts = [new_data_part(result.structured_content)] if isinstance(result.structured_content, dict) else []
    for block in result.content:
        match block.type:
            case "text":
                parts.append(new_text_part(block.text))
            case "image" | "audio":
                parts.append(new_raw_part(base64.b64decode(block.data), media_type=block.mime_type))
            case "resource_link":
                parts.append(new_url_part(str(block.uri)))
            case "resource" if hasattr(block.resource, "text"):
                parts.append(new_text_part(block.resource.text))
    return parts or [new_text_part("(nothing)")]


class Bearer:
    """Who is calling, by bearer token where the settings have any; only the card is for everybody then."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._verifier = app, identity.verifier(settings.http)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {key.lower(): value for key, value in scope["headers"]}
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            await PlainTextResponse("The message is too large.\n", 413)(scope, receive, send)
            return
        scope["user"], scope["auth"] = SimpleUser("anyone-on-this-machine"), AuthCredentials(["read"])
        if self._verifier is not None and scope["path"] not in WELL_KNOWN:
            presented = headers.get(b"authorization", b"").decode("latin-1").partition(" ")[2]
            token = await self._verifier.verify_token(presented) if presented else None
            if token is None or not token.scopes:
                refused = PlainTextResponse("A bearer token is needed.\n", 401, {"WWW-Authenticate": "Bearer"})
                await refused(scope, receive, send)
                return
            scope["user"], scope["auth"] = SimpleUser(token.client_id), AuthCredentials(token.scopes)
        await self._app(scope, receive, send)


def agent_app(client: Client[Any], exposed: Exposed, url: str, settings: Settings) -> Starlette:
    """The agent as an app. The client must be connected as long as it is served."""
    guarded = bool(settings.http.tokens or settings.http.jwks_url)
    card = card_of(exposed, url, guarded=guarded)
    handler = DefaultRequestHandlerV2(
        agent_executor=ToolCaller(client, exposed), task_store=InMemoryTaskStore(), agent_card=card
    )
    routes = [
        *(route for path in WELL_KNOWN for route in create_agent_card_routes(card, card_url=path)),
        *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True),
        *create_rest_routes(handler, enable_v0_3_compat=True),
    ]
    guard = Middleware(
        HostOriginGuardMiddleware,
        allowed_hosts=list(settings.http.allowed_hosts),
        allowed_origins=settings.http.allowed_origins,
        mode="strict",
    )
    return Starlette(routes=routes, middleware=[guard, Middleware(Bearer, settings=settings)])
