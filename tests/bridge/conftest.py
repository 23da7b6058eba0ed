"""What the bridge's tests share: agents on loopback, and a bridge that knows them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import Client, FastMCP

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.settings import Settings

sys.path.append(str(Path(__file__).parents[1] / "data" / "crew"))

if TYPE_CHECKING:
    from quarterdeck.crew.obliging import Crew

ERAS = ("auto", "legacy")


@dataclass
class Ship:
    """A bridge and the agents that it knows."""

    settings: Settings
    crew: Crew
    url: str

    @property
    def changes(self) -> Changes:
        return Changes.of(self.settings)

    def server(self) -> FastMCP[Any]:
        return create_server(self.settings)

    def client(self, era: str = "auto", **more: Any) -> Client[Any]:
        return Client(self.server(), mode=era, **more)


Start = Callable[..., Awaitable[Ship]]


def settings_for(tmp_path: Path, agents: dict[str, str], **more: Any) -> Settings:
    return Settings.model_validate({"home": tmp_path / "home", "bridge": {"agents": agents, **more}})


@pytest.fixture
async def ship(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a bridge with one obliging agent; keywords change its card, or the bridge's settings."""
    from quarterdeck.crew.obliging import Crew, app, card
    from quarterdeck.crew.ports import free_socket, serving

    async with AsyncExitStack() as stack:

        async def start(
            binding: str = "JSONRPC", version: str = "1.0", streaming: bool = True, name: str = "crew", **more: Any
        ) -> Ship:
            listener = free_socket()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            crew = Crew()
            shown = card(url, binding=binding, version=version, streaming=streaming)
            await stack.enter_async_context(serving(app(crew, shown), listener))
            return Ship(settings_for(tmp_path, {name: url}, **more), crew, url)

        yield start


def structure(result: Any) -> dict[str, Any]:
    assert result.structured_content is not None, result
    found: dict[str, Any] = result.structured_content
    return found
