"""How a tool of ours is put on an MCP server: true annotations, a lean schema, text and structure, short errors.

    server = new_server("stats", "What this server is for…", settings)

    @look(server)
    async def get_traffic(minutes: Annotated[int, Field(ge=1, le=60)] = 10) -> Traffic:
        '''What a model needs to know to call this.'''

`look` is for tools that only read, `change` for those that end in `consent.carry_out`, `act` for what lies between.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, get_args, get_type_hints

import fastmcp
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import Middleware
from fastmcp.tools import Tool, ToolResult
from fastmcp.utilities.versions import VersionSpec
from mcp_types import InputRequiredResult, TextContent, ToolAnnotations
from pydantic import ValidationError as PydanticValidationError

from quarterdeck.keel.answers import Answer, clip, lean_schema
from quarterdeck.keel.consent import ChangeAnswer, called
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import CHANGE, caller_of
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import Settings
from quarterdeck.keel.telemetry import METRICS, spans_go_nowhere

Body = Callable[..., Awaitable[Any]]


def new_server(name: str, instructions: str, settings: Settings, **extra: Any) -> FastMCP[Any]:
    """An empty server with the house's manners. `extra` goes to FastMCP (a lifespan, for one)."""
    if spans_go_nowhere():
        fastmcp.settings.telemetry_mode = "off"
    return Server(
        name,
        instructions=instructions,
        version=_version(),
        mask_error_details=True,
        middleware=[Manners(name, read_only=settings.read_only)],
        **extra,
    )


class Server(FastMCP[Any]):
    """Its tools are the same for every session, so each is looked up once: fastmcp asks every provider, and the
    session's store, several times a call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._looked_up: dict[str, Tool] = {}
        super().__init__(*args, **kwargs)

    def add_tool(self, tool: Any) -> Tool:
        self._looked_up.clear()
        return super().add_tool(tool)

    async def get_tool(self, name: str, version: VersionSpec | None = None) -> Tool | None:
        if version is not None:
            return await super().get_tool(name, version)
        if name not in self._looked_up and (tool := await super().get_tool(name)) is not None:
            self._looked_up[name] = tool
        return self._looked_up.get(name)


def look(server: FastMCP[Any], *, timeout: float = 60.0) -> Callable[[Body], Body]:
    """Register a tool that only reads: safe to call blindly, and says so."""
    notes = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
    return functools.partial(_register, server, notes, timeout)


def act(
    server: FastMCP[Any], *, destructive: bool, idempotent: bool, timeout: float = 1200.0
) -> Callable[[Body], Body]:
    """Register a tool that does something outside which is no change of ours, such as giving an agent work. Callers
    who may only read do not see it; a change that follows from it goes through `consent` like any other."""
    notes = ToolAnnotations(
        read_only_hint=False, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=True
    )
    return functools.partial(_register, server, notes, timeout)


def change(
    server: FastMCP[Any], *, destructive: bool, idempotent: bool, timeout: float = 1200.0
) -> Callable[[Body], Body]:
    """Register a tool that changes something, under a grant only: its body ends in `consent.carry_out`."""
    notes = ToolAnnotations(
        read_only_hint=False, destructive_hint=destructive, idempotent_hint=idempotent, open_world_hint=True
    )
    return functools.partial(_register, server, notes, timeout, answer=ChangeAnswer)


def changes_something(tool: Tool) -> bool:
    return not (tool.annotations and tool.annotations.read_only_hint)


def _register(
    server: FastMCP[Any], notes: ToolAnnotations, timeout: float, body: Body, *, answer: type[Answer] | None = None
) -> Body:
    hints = get_type_hints(body, include_extras=True)

    @functools.wraps(body)
    async def run(*args: Any, **kwargs: Any) -> Any:
        # Timed here: fastmcp's own time-out logs a traceback, and looks like a crash from outside.
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                result = await body(*args, **kwargs)
        except Refusal as error:
            raise ToolError(redact(str(error)), log_level=logging.DEBUG) from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolError(
                f"{body.__name__} took too long and was stopped. Ask for less, or try again.", log_level=logging.WARNING
            ) from None
        return result if isinstance(result, InputRequiredResult) else as_result(result)

    # fastmcp reads the signature to make the schema: show it the body's, with our return type.
    del run.__wrapped__
    run.__annotations__ = {**hints, "return": ToolResult}
    run.__signature__ = _resolved(body, hints)  # type: ignore[attr-defined]
    tool = Tool.from_function(
        run,
        description=inspect.getdoc(body),
        annotations=notes,
        output_schema=lean_schema(answer or _answer_of(hints["return"])),
    )
    tool.parameters = flat(tool.parameters)
    server.add_tool(tool)
    return body


def _answer_of(hint: Any) -> type[Answer]:
    """The answer among what a body may return; the other is a question to the person."""
    return next(kind for kind in (get_args(hint) or (hint,)) if isinstance(kind, type) and issubclass(kind, Answer))


def flat(parameters: dict[str, Any]) -> dict[str, Any]:
    """Optional arguments as what they are when given: half of the clients mishandle a null branch."""
    properties = {}
    for name, schema in parameters.get("properties", {}).items():
        branches = [branch for branch in schema.get("anyOf", []) if branch != {"type": "null"}]
        if len(branches) == 1:
            schema = {**branches[0], **{k: v for k, v in schema.items() if k != "anyOf"}}
        if schema.get("default", ...) is None:
            schema = {k: v for k, v in schema.items() if k != "default"}
        properties[name] = schema
    return {**parameters, "properties": properties}


def _resolved(body: Body, hints: dict[str, Any]) -> inspect.Signature:
    signature = inspect.signature(body)
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=ToolResult)


def as_result(answer: Answer) -> ToolResult:
    """Both faces of the answer, as one result."""
    return ToolResult(content=[TextContent(type="text", text=answer.text())], structured_content=answer.structure())


def call_digest(tool: str, arguments: Any) -> str:
    told = json.dumps([tool, arguments], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


class Manners(Middleware):
    """What holds for every tool: who may see it, errors that are sentences, calls that are counted."""

    def __init__(self, server: str, *, read_only: bool) -> None:
        self.server = server
        self.read_only = read_only

    async def on_list_tools(self, context: Any, call_next: Any) -> Any:
        tools = await call_next(context)
        if self._may_change(context):
            return tools
        return [tool for tool in tools if not changes_something(tool)]

    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        name = context.message.name
        tool = await context.fastmcp_context.fastmcp.get_tool(name)
        if tool is None or (changes_something(tool) and not self._may_change(context)):
            raise ToolError(await self._unknown(context, name), log_level=logging.DEBUG)
        token = called.set(call_digest(name, context.message.arguments) if changes_something(tool) else "")
        try:
            with METRICS.call(self.server, name):
                return await call_next(context)
        except ValidationError as error:
            raise ToolError(_say(error, name, tool.parameters), log_level=logging.DEBUG) from None
        except ToolError as error:
            # fastmcp has logged the cause and hidden it: say something a caller can act on instead.
            if error.__cause__ is not None:
                raise ToolError(f"{name} failed inside the server; its log on stderr says why.") from None
            raise
        finally:
            called.reset(token)

    def _may_change(self, context: Any) -> bool:
        if self.read_only:
            return False
        ctx = context.fastmcp_context
        return ctx is None or CHANGE in caller_of(ctx).scopes

    async def _unknown(self, context: Any, name: str) -> str:
        from difflib import get_close_matches

        listed = [
            tool.name
            for tool in await context.fastmcp_context.fastmcp.list_tools(run_middleware=False)
            if not changes_something(tool) or self._may_change(context)
        ]
        near = get_close_matches(name, listed, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(listed)}."
        return f"There is no tool {name[:60]!r} here. {hint}"


def _say(error: ValidationError, tool: str, parameters: dict[str, Any]) -> str:
    """One sentence on a wrong argument, without the caller's value at length and without a link to pydantic."""
    cause = error.__cause__
    if not isinstance(cause, PydanticValidationError):
        return redact(str(error))[:300]
    first = cause.errors(include_url=False, include_context=False)[0]
    name = clip(".".join(str(part) for part in first["loc"]), 60) or "the arguments"
    known = ", ".join(parameters.get("properties", {})) or "none"
    match first["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{tool} has no argument {name!r}. Its arguments: {known}."
        case "missing_argument" | "missing":
            return f"{tool} needs the argument {name!r}. Its arguments: {known}."
    value = first.get("input")
    sent = repr(value)[:60] if isinstance(value, str | int | float | bool | None) else type(value).__name__
    message = clip(str(first["msg"]).removeprefix("Value error, ").rstrip("."), 200)
    return redact(f"{name!r} of {tool}: {message[:1].lower()}{message[1:]}. You sent {sent}.")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("quarterdeck")
    except PackageNotFoundError:
        return "0"
