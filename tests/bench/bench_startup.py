"""How long a server takes from its start to the answer of `tools/list`, against a bare fastmcp server with one tool."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

BARE = """
from fastmcp import FastMCP
mcp = FastMCP("bare")
@mcp.tool
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b
mcp.run(show_banner=False)
"""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
ROUNDS = 9


def seconds_to_tools(command: list[str], environ: dict[str, str]) -> float:
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for message in (INITIALIZE, INITIALIZED, LIST):
        process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    try:
        for line in process.stdout:
            if json.loads(line).get("id") == 2:
                return time.perf_counter() - started
        raise AssertionError(f"{command} ended without an answer")
    finally:
        process.kill()
        process.wait()


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_servers_start_nearly_as_fast_as_a_bare_fastmcp_server(tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    bare.write_text(BARE)
    environ = {**os.environ, "QUARTERDECK_HOME": str(tmp_path / "home")}
    commands = {name: [sys.executable, "-m", f"quarterdeck.{name}"] for name in ("stats", "kubectl", "logs", "bridge")}
    commands["quarterdeck serve kubectl"] = [sys.executable, "-m", "quarterdeck.deck.main", "serve", "kubectl"]
    commands["bare fastmcp"] = [sys.executable, str(bare)]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        seconds_to_tools(command, environ)  # byte code is written, files are in memory
    for _ in range(ROUNDS):
        for name, command in commands.items():
            seconds[name].append(seconds_to_tools(command, environ))
    print()
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, seconds["bare fastmcp"], strict=True))
        print(f"{name:<26} median {statistics.median(taken):.2f} s   {ratio:.2f} × bare fastmcp")
        assert ratio <= 1.15
