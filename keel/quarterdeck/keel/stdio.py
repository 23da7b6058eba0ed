"""Runs one server over stdio, the way AI clients start it: as fast as can be, and silent on stdout."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from importlib import import_module


def run(module: str) -> int:
    """Serve `module.create_server(settings)` until stdin closes; then end the process."""
    # Importing makes some 400,000 objects that all stay: collecting garbage meanwhile costs a seventh of the start.
    gc.disable()
    from quarterdeck.keel.errors import Refusal
    from quarterdeck.keel.proxies import spare_loopback
    from quarterdeck.keel.settings import load

    spare_loopback()
    try:
        settings = load()
        server = import_module(module).create_server(settings)
    except Refusal as error:
        sys.stderr.write(f"quarterdeck: {error}\n")
        return 2
    import asyncio

    from quarterdeck.keel.telemetry import log_to_stderr

    log_to_stderr()
    gc.freeze()
    gc.enable()
    if sys.stdin.isatty():
        sys.stderr.write(
            f"This is an MCP server on stdio ({module}): an AI client starts it and talks to it.\n"
            "`quarterdeck install` connects one. Ctrl-C stops.\n"
        )
    code = 0
    # Ctrl-C would cancel the server, which would then wait for the thread that reads stdin: for one more line.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        asyncio.run(server.run_stdio_async(show_banner=False))
    except Exception:
        logging.getLogger("quarterdeck").exception("%s stopped", module)
        code = 1
    # An ordinary exit would wait for that thread as well.
    sys.stderr.flush()
    os._exit(code)
