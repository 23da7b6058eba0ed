"""Any MCP server is served as an A2A agent: its tools as skills, and changes only for whoever may make them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client, Context, FastMCP
from mcp_types import ToolAnnotations

from quarterdeck.bridge.server import create_server
from quarterdeck.keel.identity import new_token
from quarterdeck.keel.settings import Settings

READS = ToolAnnotations(read_only_hint=True)


def foreign() -> tuple[FastMCP[Any], list[str]]:
    """A server written by others: one tool that reads, one that changes, one that says nothing about itself."""
    server: FastMCP[Any] = FastMCP("foreign", instructions="Counts things.")
    done: list[str] = []

    @server.tool(annotations=READS)
    async def count_things(kind: str, most: int = 3) -> dict[str, Any]:
        """Count the things of a kind."""
        return {"kind": kind, "count": most}

    @server.tool(annotations=READS)
    async def slow_look(ctx: Context) -> str:
        """Looks in two steps."""
        await ctx.report_progress(1, 2, "looked left")
        await ctx.report_progress(2, 2, "looked right")
        return "nothing there"

    @server.tool(annotations=READS)
    async def break_down() -> str:
        """Always fails."""
        raise RuntimeError("password=hunter2hunter2")

    @server.tool
    async def drop_all() -> str:
        """Says nothing about itself."""
        done.append("dropped")
        return "dropped"

    return server, done


@asynccontextmanager
async def exposed(tmp_path: Path, tokens: list[dict[str, Any]]) -> AsyncIterator[tuple[str, Any, list[str]]]:
    from quarterdeck.bridge.expose import agent_app, look_at
    from quarterdeck.crew.ports import free_socket, serving

    settings = Settings.model_validate({"home": tmp_path, "http": {"tokens": tokens}})
    server, done = foreign()
    listener = free_socket()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    async with Client(server) as client:
        shown = await look_at(client, settings, "foreign")
        async with serving(agent_app(client, shown, url, settings), listener):
            yield url, shown, done


def bridge(tmp_path: Path, url: str, credential: str = "") -> Client[Any]:
    credentials = {"foreign": credential} if credential else {}
    found = {"home": tmp_path / "bridge", "bridge": {"agents": {"foreign": url}, "credentials": credentials}}
    return Client(create_server(Settings.model_validate(found)))


async def call(client: Client[Any], **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = (
        await client.call_tool("delegate", {"agent": "foreign", **arguments})
    ).structured_content or {}
    return found


async def test_its_tools_are_skills_and_are_called_by_data_by_skill_or_by_name(tmp_path: Path) -> None:
    async with exposed(tmp_path, []) as (url, shown, _), bridge(tmp_path, url) as client:
        assert set(shown.tools) == {"count_things", "slow_look", "break_down"}
        assert shown.left_out == ["drop_all"]
        by_data = await call(
            client, text="count", data={"tool": "count_things", "arguments": {"kind": "pods", "most": 7}}
        )
        assert '"count": 7' in by_data["output"], by_data
        by_skill = await call(client, text="nodes", skill="count_things")
        assert '"kind": "nodes"' in by_skill["output"]
        assert "nothing there" in (await call(client, text="slow_look"))["output"]
        lost = await call(client, text="please do something")
        assert lost["state"] == "rejected"
        assert "Say which tool" in lost["said"]


async def test_a_tool_that_fails_fails_the_task_without_its_secrets(tmp_path: Path) -> None:
    async with exposed(tmp_path, []) as (url, _, _), bridge(tmp_path, url) as client:
        view = await call(client, text="break_down")
        assert view["state"] == "failed"
        assert "hunter2" not in str(view)
        wrong = await call(client, text="x", data={"tool": "count_things", "arguments": {"wrong": 1}})
        assert wrong["state"] == "failed"


async def test_without_a_token_that_may_change_nothing_that_changes_can_be_called(tmp_path: Path) -> None:
    async with exposed(tmp_path, []) as (url, _, done), bridge(tmp_path, url) as client:
        view = await call(client, text="x", data={"tool": "drop_all"})
        assert view["state"] == "rejected"
        assert done == []


async def test_a_token_decides_who_may_read_and_who_may_change(tmp_path: Path) -> None:
    reader, reader_hash = new_token()
    changer, changer_hash = new_token()
    tokens = [
        {"name": "reader", "sha256": reader_hash, "scopes": ["read"]},
        {"name": "changer", "sha256": changer_hash, "scopes": ["read", "change"]},
    ]
    async with exposed(tmp_path, tokens) as (url, shown, done):
        assert "drop_all" in shown.tools
        async with httpx.AsyncClient() as http:
            for path in ("agent-card.json", "agent.json"):  # the second is where clients from before 0.3 look
                assert (await http.get(f"{url}.well-known/{path}")).json()["skills"]
            for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": reader}):
                assert (await http.post(url, json={}, headers=header)).status_code == 401
            assert (await http.get(url, headers={"host": "evil.example"})).status_code in (403, 421)
        async with bridge(tmp_path / "0", url) as client:
            assert (await call(client, text="slow_look"))["state"] == "failed"
        async with bridge(tmp_path / "1", url, reader) as client:
            assert (await call(client, text="slow_look"))["state"] == "completed"
            refused = await call(client, text="x", data={"tool": "drop_all"})
            assert "scope change" in refused["said"]
            assert done == []
        async with bridge(tmp_path / "2", url, changer) as client:
            assert (await call(client, text="drop_all"))["state"] == "completed"
            assert done == ["dropped"]


@pytest.mark.timeout(90)
async def test_the_command_serves_one_of_ours_and_says_what_is_not_exposed(tmp_path: Path) -> None:
    env = {**os.environ, "QUARTERDECK_HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "quarterdeck.deck.main", "expose", "kubectl", "--port", "0"]
    running = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: ASYNC220
    assert running.stdout is not None
    try:
        first, second = running.stdout.readline(), running.stdout.readline()
        found = re.search(r"http://\S+", first)
        assert found, first
        assert "restart_deployment" in second
        async with httpx.AsyncClient() as http:
            card = (await http.get(f"{found.group()}.well-known/agent-card.json")).json()
        skills = {skill["id"] for skill in card["skills"]}
        assert "find_problems" in skills
        assert "restart_deployment" not in skills
    finally:
        running.send_signal(signal.SIGINT)
        try:
            running.wait(15)
        except subprocess.TimeoutExpired:
            running.kill()
        running.communicate()


async def test_the_settings_of_this_shell_reach_the_server_that_is_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quarterdeck.deck.expose import transport

    (tmp_path / "shop.log").write_text("ERROR the till is stuck\n")
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("QUARTERDECK_CONFIG", "")
    monkeypatch.setenv("QUARTERDECK_LOGS_SOURCE", "files")
    monkeypatch.setenv("QUARTERDECK_LOGS_FILES", f"shop={tmp_path}/shop.log")
    async with Client(transport(["logs"])) as client:
        found = await client.call_tool("tail_errors", {"service": "shop"}, raise_on_error=False)
    assert "the till is stuck" in str(found.content)


async def test_what_is_read_only_here_is_exposed_read_only_even_to_a_token_that_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quarterdeck.bridge.expose import look_at
    from quarterdeck.deck.expose import transport

    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("QUARTERDECK_CONFIG", "")
    tokens = [{"name": "changer", "sha256": new_token()[1], "scopes": ["read", "change"]}]
    settings = Settings.model_validate({"home": tmp_path, "http": {"tokens": tokens}})
    for read_only in (False, True):
        monkeypatch.setenv("QUARTERDECK_READ_ONLY", "1" if read_only else "0")
        async with Client(transport(["kubectl"])) as client:
            shown = await look_at(client, settings, "kubectl")
        assert "find_problems" in shown.tools
        assert ("restart_deployment" in shown.tools) is not read_only
        assert shown.left_out == []


def test_an_unknown_name_is_complained_of_before_the_port(tmp_path: Path) -> None:
    from quarterdeck.crew.ports import free_socket

    with free_socket() as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "quarterdeck.deck.main", "expose", "nope-nope", "--port", port]
        env = {**os.environ, "QUARTERDECK_HOME": str(tmp_path)}
        ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "'nope-nope'" in ended.stderr
    assert "port" not in ended.stderr
