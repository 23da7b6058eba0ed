"""Metrics, logs and traces of a server process.

Traces: fastmcp opens OpenTelemetry spans by itself; they go wherever the installed SDK is told (OTEL_*). Where
none is installed they are not opened, which saves a few percent of every call.
Metrics: counted per tool, served at /metrics over HTTP. Logs: one JSON object a line on stderr, redacted; stdout of a
stdio server belongs to the protocol.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.redact import redact

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clip(redact(plain(record.getMessage())), 2000),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = clip(redact(plain(self.formatException(record.exc_info))), 4000)
        return json.dumps(entry, ensure_ascii=False)


def log_to_stderr(level: int = logging.INFO) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("fastmcp", "mcp", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs


def spans_go_nowhere() -> bool:
    """Whether there is nobody to take OpenTelemetry's spans, and nobody asked for them."""
    if {"OTEL_PYTHON_TRACER_PROVIDER", "FASTMCP_TELEMETRY_MODE"} & os.environ.keys():
        return False
    return importlib.util.find_spec("opentelemetry.sdk") is None


class Metrics:
    """Counters of tool calls. The client library is imported with the first call, not at start-up."""

    def __init__(self) -> None:
        self._registry: Any = None

    def _made(self) -> Any:
        if self._registry is None:
            from prometheus_client import CollectorRegistry, Counter, Histogram

            self._registry = CollectorRegistry()
            self.calls = Counter(
                "quarterdeck_tool_calls",
                "Tool calls by outcome",
                ["server", "tool", "outcome"],
                registry=self._registry,
            )
            self.seconds = Histogram(
                "quarterdeck_tool_seconds",
                "Time a tool took",
                ["server", "tool"],
                buckets=BUCKETS,
                registry=self._registry,
            )
        return self._registry

    @contextmanager
    def call(self, server: str, tool: str) -> Iterator[None]:
        started, outcome = time.perf_counter(), "ok"
        try:
            yield
        except BaseException as error:
            outcome = "cancelled" if type(error).__name__ == "CancelledError" else "error"
            raise
        finally:
            self._made()
            self.calls.labels(server, tool, outcome).inc()
            self.seconds.labels(server, tool).observe(time.perf_counter() - started)

    def page(self) -> bytes:
        from prometheus_client import generate_latest

        return generate_latest(self._made())


METRICS = Metrics()
