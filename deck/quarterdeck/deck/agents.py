"""`quarterdeck agents`: headless agents over A2A, REST and Alertmanager's webhook."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from quarterdeck.deck.serve import bind, refuse_strangers
from quarterdeck.keel import signals
from quarterdeck.keel.settings import load

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from quarterdeck.agents.runtime.app import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve the remediation agent: A2A (JSON-RPC and REST, protocols 1.0 and 0.3) on /remediation, plain REST on "
        "/agent/diagnose and /agent/report/ID, Alertmanager's webhook on /agent/alerts. What it was doing when it was "
        "stopped or killed goes on when it starts again."
    )
    parser.add_argument("--host", help="address to bind (default 127.0.0.1; others need a token)")
    parser.add_argument("--port", type=int, help="port (default 7400; 0 takes a free one)")
    parser.add_argument("--url", help="the address under which callers reach it, for its card (default: as bound)")


def run(arguments: argparse.Namespace) -> int:
    import uvicorn
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from quarterdeck.agents.remediation.card import REMEDIATION
    from quarterdeck.agents.remediation.rest import routes
    from quarterdeck.agents.runtime.app import create_app
    from quarterdeck.deck.crew import crew
    from quarterdeck.keel.telemetry import log_to_stderr

    settings = load()
    host = settings.http.host if arguments.host is None else arguments.host
    refuse_strangers(settings, host)
    listener = bind(host, settings.agents.port if arguments.port is None else arguments.port)
    shown = f"[{host}]" if ":" in host else host
    url = (arguments.url or f"http://{shown}:{listener.getsockname()[1]}").rstrip("/")
    served = {
        "A2A": f"{url}/remediation   card {url}/remediation/.well-known/agent-card.json",
        "REST": f"POST {url}/agent/diagnose   GET {url}/agent/report/ID   GET {url}/agent/reports",
        "alerts": f"POST {url}/agent/alerts (Alertmanager webhook)   health {url}/healthz",
    }
    lines = "\n".join(f"{name:<8} {where}" for name, where in served.items())

    async def index(_: Request) -> Response:
        return PlainTextResponse(f"Quarterdeck's headless agents: programs talk to them.\n\n{lines}\n")

    def all_routes(runtime: Runtime) -> list[BaseRoute]:
        return [Route("/", index), *routes(runtime)]

    app = create_app([REMEDIATION], settings, lambda: crew(settings), url, host=host, routes=all_routes)
    log_to_stderr()
    print(lines, file=sys.stderr)
    print("Ctrl-C stops; what is unfinished goes on at the next start.", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5, h11_max_incomplete_event_size=64 * 1024)
    with listener:
        signals.run(uvicorn.Server(config).serve(sockets=[listener]))
    return 0
