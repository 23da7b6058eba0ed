"""A person's client finds agents, gives them work, follows it and reads what they made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

if TYPE_CHECKING:
    from .conftest import Start

ERAS = ("auto", "legacy")
KINDS = {
    "JSON-RPC 1.0": {},
    "JSON-RPC 0.3": {"version": "0.3"},
    "REST 1.0": {"binding": "HTTP+JSON"},
    "REST 0.3": {"binding": "HTTP+JSON", "version": "0.3"},
    "without streaming": {"streaming": False},
    "0.3 without streaming": {"streaming": False, "version": "0.3"},
}


def structure(result: Any) -> dict[str, Any]:
    assert result.structured_content is not None, result
    found: dict[str, Any] = result.structured_content
    return found


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_agent_gets_its_task_once_and_its_result_comes_back(
    kind: str, era: str, ship: Start
) -> None:
    started = await ship(**KINDS[kind])
    async with started.client(era) as client:
        result = await client.call_tool("delegate", {"agent": "crew", "text": "hello there"})
        view = structure(result)
        assert view["state"] == "completed", view
        assert "echo: hello there" in view["output"]
        assert "echo: hello there" in result.content[0].text
        schemas = {tool.name: tool.output_schema for tool in await client.list_tools()}
        jsonschema.validate(view, schemas["delegate"] or {})
    assert len(started.crew.received) == 1
