"""Malformed and hostile messages over stdio and HTTP: the server neither falls, nor hangs, and still answers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

SERVER = "logs"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": "hello",
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "fuzz", "version": "1"}},
}
METHODS = [
    "tools/call", "tools/list", "resources/read", "prompts/get", "initialize", "ping", "server/discover", "", "../x",
    "logging/setLevel", "completion/complete", "notifications/cancelled", "notifications/initialized", "tasks/get",
    "\x00",
]  # fmt: skip
TOOLS = ["search_logs", "get_service_logs", "restart_deployment", "__class__", "tools/list", "", "a" * 5000, "🙂"]


def hostile_value(dice: random.Random, depth: int = 0) -> Any:
    plain = [
        None, True, -1, 2**63, 1e308, "", "x" * dice.choice([10, 10_000]), "../../etc/passwd", "'; drop table x; --",
        "\ud800", "${jndi:ldap://127.0.0.1/a}", "{{7*7}}", "\u202e\u0000", "(a+)+$", [], {}, "NaN",
    ]  # fmt: skip
    if depth < 4 and dice.random() < 0.4:
        if dice.random() < 0.5:
            return [hostile_value(dice, depth + 1) for _ in range(dice.randrange(4))]
        return {str(hostile_value(dice, 9))[:50]: hostile_value(dice, depth + 1) for _ in range(dice.randrange(4))}
    return dice.choice(plain)


def hostile_message(dice: random.Random) -> bytes:
    kind = dice.randrange(10)
    if kind == 0:
        return bytes(dice.randrange(256) for _ in range(dice.randrange(200))).replace(b"\n", b" ")
    if kind == 1:
        return b"[" * dice.choice([10, 5000]) + b"]" * dice.choice([0, 10, 5000])
    message: Any = {
        "jsonrpc": "2.0",
        "id": dice.choice([1, "a", None, 1.5, -1, [], {}, 2**70]),
        "method": dice.choice(METHODS),
    }
    message["params"] = hostile_value(dice)
    if kind == 2:
        message = [message] * dice.randrange(5)
    elif kind in (3, 4, 5):
        message["method"] = "tools/call"
        message["id"] = dice.randrange(10**6)
        message["params"] = {"name": dice.choice(TOOLS), "arguments": hostile_value(dice)}
    elif kind == 6:
        for key in dice.sample(sorted(message), dice.randrange(1, 4)):
            del message[key]
    elif kind == 7:
        message = {"jsonrpc": "2.0", "id": dice.randrange(10**6), dice.choice(["result", "error"]): hostile_value(dice)}
    elif kind == 8:
        message["params"] = {"_meta": hostile_value(dice), "cursor": hostile_value(dice), "name": "search_logs"}
    text = json.dumps(message)
    if kind == 9:
        at = dice.randrange(len(text) + 1)
        text = text[:at] + dice.choice(["", "}", '"', "\\", "\x00"]) + text[at + dice.randrange(3) :]
    return text.encode("utf-8", "surrogatepass").replace(b"\n", b" ")


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("QUARTERDECK_")},
        "QUARTERDECK_HOME": str(tmp_path / "home"),
        "QUARTERDECK_LOGS_SOURCE": "files",
        "QUARTERDECK_LOGS_FILES": f"app={tmp_path}/*.log",
    }


def run_stdio(count: int, seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    process = subprocess.Popen(
        [sys.executable, "-m", f"quarterdeck.{SERVER}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(tmp_path),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: Queue[bytes] = Queue()
    reader = threading.Thread(target=lambda: [said.put(line) for line in process.stdout or []], daemon=True)
    reader.start()

    def answers_to(id: str, message: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None
        process.stdin.write(json.dumps({**message, "id": id}).encode() + b"\n")
        process.stdin.flush()
        while True:
            try:
                line = said.get(timeout=30)
            except Empty:
                raise AssertionError(f"no answer to {id}; process ended: {process.poll()}") from None
            answer = json.loads(line)  # whatever is on stdout must be the protocol
            assert b"Traceback" not in line
            if answer.get("id") == id:
                found: dict[str, Any] = answer
                return found

    try:
        assert "result" in answers_to("hello", INITIALIZE)
        process.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        for number in range(count):
            process.stdin.write(hostile_message(dice) + b"\n")
            if number % 250 == 249:
                answer = answers_to(f"still-there-{number}", {"jsonrpc": "2.0", "method": "tools/list", "params": {}})
                assert answer["result"]["tools"]
        assert answers_to("last", {"jsonrpc": "2.0", "method": "tools/list", "params": {}})["result"]["tools"]
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=10)


def start_http(port: int, tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "quarterdeck.deck.main", "serve", SERVER, "--http", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(tmp_path),
    )


async def run_http(count: int, seed: int, tmp_path: Path) -> None:
    import httpx
    from fastmcp import Client

    dice = random.Random(seed)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_http(port, tmp_path)
    url = f"http://127.0.0.1:{port}/{SERVER}"
    try:
        async with httpx.AsyncClient(timeout=30) as http:
            for _ in range(300):
                try:
                    if (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
            for number in range(count):
                headers = {
                    "content-type": dice.choice(["application/json"] * 8 + ["text/plain", ""]),
                    "accept": dice.choice(["application/json, text/event-stream"] * 8 + ["*/*", "text/html"]),
                }
                if dice.random() < 0.3:
                    headers["mcp-protocol-version"] = dice.choice(["2026-07-28", "2025-11-25", "1", "x" * 300])
                if dice.random() < 0.2:
                    headers["mcp-session-id"] = dice.choice(["x", "../", "0" * 64])
                if dice.random() < 0.2:
                    headers["mcp-method"] = dice.choice(["tools/call", "tools/list", "x"])
                method = dice.choice(["POST"] * 12 + ["DELETE", "PUT", "OPTIONS"])
                answer = await http.request(method, url, content=hostile_message(dice), headers=headers)
                assert answer.status_code < 500, (answer.status_code, answer.text[:300])
                assert "Traceback" not in answer.text
                if number % 500 == 499:
                    assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
        for era in ("auto", "legacy"):
            async with Client(url, mode=era) as client:
                assert await client.list_tools()
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_a_stdio_server_outlives_a_thousand_hostile_messages(tmp_path: Path) -> None:
    run_stdio(1_000, 1, tmp_path)


async def test_an_http_server_outlives_a_thousand_hostile_messages(tmp_path: Path) -> None:
    await run_http(1_000, 2, tmp_path)


@pytest.mark.bench
@pytest.mark.timeout(600)
async def test_both_outlive_ten_thousand_hostile_messages_each(tmp_path: Path) -> None:
    run_stdio(10_000, 3, tmp_path)
    await run_http(10_000, 4, tmp_path)
