"""`quarterdeck agents`: headless agents over A2A, REST and Alertmanager's webhook."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from quarterdeck.deck.serve import bind, refuse_strangers
from quarterdeck.keel import signals
from quarterdeck.keel.settings import Settings, load

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from quarterdeck.agents.runtime.app import Runtime

WORKERS = ("research", "extraction", "reflection", "storage")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [research|extraction|reflection|storage] [--host HOST] [--port PORT] [--url URL]"
    parser.description = (
        "Serve the agents: remediation on /remediation, company research on /companies (A2A: JSON-RPC and REST, "
        "protocols 1.0 and 0.3), plain REST on /agent/… and /research/…, /jobs/…, Alertmanager's webhook on "
        "/agent/alerts. What they were doing when they were stopped or killed goes on when they start again. The "
        "workers of company research run in the same process; or name one, to serve only that one: then tell the "
        'coordinator where it is, e.g. QUARTERDECK_COMPANIES_RESEARCH="http://10.0.0.5:7411 http://10.0.0.6:7411".'
    )
    parser.add_argument("worker", nargs="?", choices=WORKERS, metavar="WORKER", help=f"serve only {', '.join(WORKERS)}")
    parser.add_argument("--host", help="address to bind (default 127.0.0.1; others need a token)")
    parser.add_argument("--port", type=int, help="port (default 7400; 0 takes a free one)")
    parser.add_argument("--url", help="the address under which callers reach it, for its card (default: as bound)")


def run(arguments: argparse.Namespace) -> int:
    import uvicorn

    from quarterdeck.keel.telemetry import log_to_stderr

    settings = load()
    host = settings.http.host if arguments.host is None else arguments.host
    refuse_strangers(settings, host)
    listener = bind(host, settings.agents.port if arguments.port is None else arguments.port)
    shown = f"[{host}]" if ":" in host else host
    url = (arguments.url or f"http://{shown}:{listener.getsockname()[1]}").rstrip("/")
    served = _worker_lines(url, arguments.worker) if arguments.worker else _lines(url)
    lines = "\n".join(f"{name:<8} {where}" for name, where in served.items())
    app = _app(settings, arguments.worker or "", url, host, lines)
    log_to_stderr()
    print(lines, file=sys.stderr)
    print("Ctrl-C stops; what is unfinished goes on at the next start.", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        _in_a_sentence(app), log_config=None, timeout_graceful_shutdown=5, h11_max_incomplete_event_size=64 * 1024
    )
    with listener:
        signals.run(uvicorn.Server(config).serve(sockets=[listener]))
    return 0


def _in_a_sentence(app: ASGIApp) -> ASGIApp:
    """What keeps it from starting, such as a database that is away, without the traceback: a supervisor tries again."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                kind, _, why = message["message"].rstrip().rpartition("\n")[2].partition(": ")
                if kind.startswith("quarterdeck.keel.errors."):
                    message = {**message, "message": why}
            await send(message)

        await app(scope, receive, tell)

    return serve


def _lines(url: str) -> dict[str, str]:
    return {
        "A2A": f"{url}/remediation   card {url}/remediation/.well-known/agent-card.json",
        "": f"{url}/companies     card {url}/companies/.well-known/agent-card.json",
        "REST": f"POST {url}/agent/diagnose   GET {url}/agent/report/ID   GET {url}/agent/reports",
        " ": f"POST {url}/research/single   POST {url}/research/batch   GET {url}/jobs   GET {url}/jobs/ID/results",
        "alerts": f"POST {url}/agent/alerts (Alertmanager webhook)   health {url}/healthz",
    }


def _worker_lines(url: str, worker: str) -> dict[str, str]:
    return {"A2A": f"{url}/{worker}   card {url}/{worker}/.well-known/agent-card.json   health {url}/healthz"}


def _app(settings: Settings, worker: str, url: str, host: str, lines: str) -> Starlette:
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from quarterdeck.agents.companies import metrics
    from quarterdeck.agents.companies import rest as companies
    from quarterdeck.agents.companies.cards import WORKERS as CARDS
    from quarterdeck.agents.companies.coordinator import COORDINATOR
    from quarterdeck.agents.remediation import rest as remediation
    from quarterdeck.agents.remediation.card import REMEDIATION
    from quarterdeck.agents.runtime.app import create_app
    from quarterdeck.deck import crew

    async def index(_: Request) -> Response:
        return PlainTextResponse(f"Quarterdeck's headless agents: programs talk to them.\n\n{lines}\n")

    def all_routes(runtime: Runtime) -> list[BaseRoute]:
        more = [] if worker else [*remediation.routes(runtime), *companies.routes(runtime), *metrics.routes()]
        return [Route("/", index), *more]

    if worker:
        return create_app(
            [CARDS[worker]], settings, lambda: crew.worker(settings, worker), url, host=host, routes=all_routes
        )
    agents = [REMEDIATION, COORDINATOR]
    return create_app(agents, settings, lambda: crew.everybody(settings), url, host=host, routes=all_routes)
