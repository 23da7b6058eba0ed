"""`quarterdeck expose`: serve any MCP server, ours or another, as an A2A agent."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from quarterdeck.deck.install import SERVERS, started
from quarterdeck.deck.serve import bind
from quarterdeck.keel import signals
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import load

if TYPE_CHECKING:
    from quarterdeck.bridge.expose import Exposed
    from quarterdeck.keel.settings import Settings

START_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Examples: quarterdeck expose logs · quarterdeck expose http://127.0.0.1:7300/stats · "
        "quarterdeck expose -- npx some-server"
    )
    parser.add_argument(
        "target",
        nargs="+",
        metavar="SERVER|URL|COMMAND",
        help="stats, kubectl, logs, research, bridge; an MCP address; or a command",
    )
    parser.add_argument("--name", help="the agent's name (default: made from the server)")
    parser.add_argument("--port", type=int, default=7500, help="port on 127.0.0.1 (default 7500; 0 takes a free one)")


def run(arguments: argparse.Namespace) -> int:
    from quarterdeck.keel.telemetry import log_to_stderr

    settings = load()
    log_to_stderr()
    name = arguments.name or name_of(arguments.target)
    return signals.run(serve(transport(arguments.target), name, arguments.port, settings))


def transport(target: list[str]) -> Any:
    """How the MCP server is reached."""
    if len(target) == 1 and target[0].startswith(("http://", "https://")):
        return target[0]
    from fastmcp.client.transports import StdioTransport

    environ = dict(os.environ)  # else the child would get neither settings nor QUARTERDECK_READ_ONLY
    if len(target) == 1 and target[0] in SERVERS:
        return StdioTransport(sys.executable, started(target[0]), env=environ)
    if shutil.which(target[0]) is None:
        raise Refusal(
            f"There is no server and no command {target[0]!r}. Give one of {', '.join(SERVERS)}, the address of an MCP "
            "server, or a command that starts one."
        )
    return StdioTransport(target[0], target[1:], env=environ)


def name_of(target: list[str]) -> str:
    last = target[0].rstrip("/").rsplit("/", 1)[-1] if len(target) == 1 else target[-1].rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.")[:60] or "agent"


async def serve(target: Any, name: str, port: int, settings: Settings) -> int:
    import uvicorn
    from fastmcp import Client

    from quarterdeck.bridge.expose import agent_app, look_at

    listener = bind("127.0.0.1", port)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    async with AsyncExitStack() as stack:
        stack.enter_context(listener)
        try:
            async with asyncio.timeout(START_S):
                client = await stack.enter_async_context(Client(target, name="quarterdeck expose"))
        except (Exception, TimeoutError) as error:
            raise Refusal(
                f"The MCP server does not start or answer ({type(error).__name__}). Try its command or address by "
                "itself."
            ) from None
        exposed = await look_at(client, settings, name)
        if not exposed.tools:
            raise Refusal(f"That server has no tool that may be shown. {_left_out(exposed)}")
        print(
            f"{exposed.name}: {len(exposed.tools)} skills at {url} (card: {url}.well-known/agent-card.json)", flush=True
        )
        if exposed.left_out:
            print(_left_out(exposed), flush=True)
        app = agent_app(client, exposed, url, settings)
        await uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5)).serve(
            sockets=[listener]
        )
    return 0


def _left_out(exposed: Exposed) -> str:
    if not exposed.left_out:
        return ""
    return (
        f"Not exposed, because they may change something and no bearer token has the scope change: "
        f"{', '.join(exposed.left_out)}. `quarterdeck token NAME --change` makes one."
    )
