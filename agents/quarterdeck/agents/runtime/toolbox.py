"""The tools an agent works with: MCP servers, in this process or elsewhere, reached the same way.

    async with Toolbox({"stats": create_server(settings), "kubectl": "http://10.0.0.5:7300/kubectl"}, agent) as tools:
        said = await tools.call("kubectl", "list_pods", {})

A server in this process is spoken to over the in-memory transport, as the agent and not as who started it. All runs
share the connections, and at most `at_once` calls are in flight, whatever the number of runs.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.identity import Caller, acting_as
from quarterdeck.keel.redact import redact

if TYPE_CHECKING:
    from fastmcp import Client, FastMCP
    from mcp_types import Tool

log = logging.getLogger(__name__)
KEY = "quarterdeck.key"
CALL_S = 60.0


@dataclass(frozen=True)
class Said:
    """What a tool answered: its text, and its structured answer."""

    text: str
    data: dict[str, Any]


class Unreachable(Refusal):
    """The server did not answer: it may be there again in a moment, and the call may have arrived or not."""


class Toolbox:
    def __init__(
        self, servers: dict[str, FastMCP[Any] | str], caller: Caller, *, token: str = "", at_once: int = 8
    ) -> None:
        self._servers, self._caller, self._token = servers, caller, token
        self._slots = asyncio.Semaphore(at_once)
        self._clients: dict[str, Client[Any]] = {}
        self._opening: dict[str, asyncio.Lock] = {name: asyncio.Lock() for name in servers}

    @property
    def servers(self) -> list[str]:
        return list(self._servers)

    async def __aenter__(self) -> Toolbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            try:
                async with asyncio.timeout(5):
                    await client.__aexit__(None, None, None)  # type: ignore[no-untyped-call]
            except Exception:
                pass
        self._clients.clear()

    async def open(self) -> None:
        """Connect now, so that servers can begin to watch; one that cannot be reached is tried again when needed."""
        for name in self._servers:
            try:
                async with asyncio.timeout(CALL_S):
                    await self._client(name)
            except Exception as error:
                log.warning("the server %s cannot be reached yet (%s)", name, _short(error))

    async def call(
        self, server: str, tool: str, arguments: dict[str, Any], *, key: str = "", timeout_s: float = CALL_S
    ) -> Said:
        """Call a tool. Raises Refusal with the tool's own words when it refuses, Unreachable when it does not answer.

        A call over a connection that turns out to be broken is made once more over a new one: it only looks, or it
        has a `key`, under which a change is carried out once."""
        async with self._slots:
            try:
                async with asyncio.timeout(timeout_s):
                    known = self._clients.get(server)
                    try:
                        result = await self._ask(server, tool, arguments, key)
                    except Refusal:
                        raise
                    except Exception:
                        if known is None:
                            raise
                        await self._lost(server, known)
                        result = await self._ask(server, tool, arguments, key)
            except TimeoutError:
                raise Unreachable(f"{server}.{tool} did not answer within {timeout_s:g} s.") from None
            except Refusal:
                raise
            except Exception as error:
                await self._lost(server, self._clients.get(server))
                raise Unreachable(
                    f"The server {server} cannot be reached ({type(error).__name__}: {_short(error)})."
                ) from None
        text = "\n".join(block.text for block in result.content if hasattr(block, "text"))
        if result.is_error:
            raise Refusal(text or f"{server}.{tool} refused without saying why.")
        data = result.structured_content if isinstance(result.structured_content, dict) else {}
        return Said(text, data)

    async def _ask(self, server: str, tool: str, arguments: dict[str, Any], key: str) -> Any:
        client = await self._client(server)
        with acting_as(self._caller):  # a server in this process sees whose call it is
            # As it came: fastmcp would make a class of the tool's schema for each answer.
            return await client.call_tool_mcp(tool, arguments, meta={KEY: key} if key else None)

    async def tools(self, server: str) -> list[Tool]:
        try:
            async with asyncio.timeout(CALL_S):
                return await (await self._client(server)).list_tools()
        except Exception as error:
            raise Refusal(f"The server {server} cannot be reached ({type(error).__name__}).") from None

    async def _client(self, name: str) -> Client[Any]:
        if name not in self._servers:
            raise Refusal(f"This agent has no server {name!r}.")
        async with self._opening[name]:
            known = self._clients.get(name)
            if known is not None and known.is_connected():
                return known
            made = self._make(name)
            await made.__aenter__()  # type: ignore[no-untyped-call]
            self._clients[name] = made
            return made

    def _make(self, name: str) -> Client[Any]:
        from fastmcp import Client
        from fastmcp.client.transports import StreamableHttpTransport

        place = self._servers[name]
        if not isinstance(place, str):
            return Client(place)
        return Client(StreamableHttpTransport(place, auth=self._token or None))

    async def _lost(self, name: str, client: Client[Any] | None) -> None:
        """Forget a broken connection, so that the next call opens a new one; unless somebody has already."""
        if client is not None and self._clients.get(name) is client:
            del self._clients[name]
            try:
                async with asyncio.timeout(2):
                    await client.__aexit__(None, None, None)  # type: ignore[no-untyped-call]
            except Exception:
                pass


def _short(error: Exception) -> str:
    return clip(redact(plain(str(error))).replace("\n", " "), 160)
