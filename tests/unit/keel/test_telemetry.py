"""Logs are redacted JSON lines on stderr; tool calls are counted by outcome."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys

import pytest
from fastmcp import Client, FastMCP

from quarterdeck.keel.answers import Answer
from quarterdeck.keel.settings import Settings
from quarterdeck.keel.telemetry import METRICS, JsonLines, Metrics
from quarterdeck.keel.tools import look, new_server


def record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise RuntimeError("password=planted4711 broke\x1b[31m")
        except RuntimeError:
            info = sys.exc_info()
    return logging.LogRecord("quarterdeck", logging.ERROR, __file__, 1, message, arguments, info)


def test_a_log_line_is_one_json_object_without_secrets_or_escapes() -> None:
    line = JsonLines().format(record("token=%s\nfrom \x1b[2J%s", "planted4711", "한국", error=True))
    assert "\n" not in line
    entry = json.loads(line)
    assert entry["level"] == "error"
    assert entry["message"] == "token=[redacted]\nfrom 한국"
    assert "RuntimeError" in entry["error"]
    assert "planted4711" not in line
    assert "\\u001b" not in line


def test_a_log_line_is_bounded() -> None:
    assert len(JsonLines().format(record("x" * 100_000))) < 3000


def test_logs_go_to_stderr_and_nothing_to_stdout() -> None:
    script = (
        "import logging\nfrom quarterdeck.keel.telemetry import log_to_stderr\nlog_to_stderr()\n"
        "logging.getLogger('fastmcp.x').warning('one')\nlogging.getLogger('httpx').info('http://x?token=a')\n"
        "logging.getLogger('uvicorn.access').info('GET')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout == ""
    assert [json.loads(line)["message"] for line in ran.stderr.splitlines()] == ["one"]


def count(page: str, **labels: str) -> float:
    for line in page.splitlines():
        if line.startswith("quarterdeck_tool_calls_total{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_calls_are_counted_by_how_they_ended() -> None:
    metrics = Metrics()
    with metrics.call("s", "t"):
        pass
    with pytest.raises(ValueError, match="x"), metrics.call("s", "t"):
        raise ValueError("x")
    with pytest.raises(asyncio.CancelledError), metrics.call("s", "t"):
        raise asyncio.CancelledError
    page = metrics.page().decode()
    for outcome in ("ok", "error", "cancelled"):
        assert count(page, server="s", tool="t", outcome=outcome) == 1
    assert 'quarterdeck_tool_seconds_count{server="s",tool="t"} 3.0' in page


class Fine(Answer):
    def text(self) -> str:
        return "fine"


async def test_made_up_tool_names_do_not_fill_the_metrics(settings: Settings) -> None:
    server: FastMCP[None] = new_server("counted", "Counts.", settings)

    @look(server)
    async def look_here() -> Fine:
        """Look."""
        return Fine()

    async with Client(server) as client:
        await client.call_tool("look_here", {})
        for number in range(20):
            await client.call_tool(f"made_up_{number}", {}, raise_on_error=False)
    page = METRICS.page().decode()
    assert count(page, server="counted", tool="look_here", outcome="ok") == 1
    assert "made_up" not in page
