"""What waits for the workers, for Prometheus and whatever scales by it."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from quarterdeck.agents.companies.outfit import office
from quarterdeck.agents.companies.pool import Pool
from quarterdeck.keel.telemetry import METRICS


def page(pools: Mapping[str, Pool]) -> bytes:
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    waiting = Gauge("quarterdeck_pool_waiting", "Calls that wait for a worker", ["agent"], registry=registry)
    busy = Gauge("quarterdeck_pool_busy", "Calls that workers are at", ["agent"], registry=registry)
    well = Gauge("quarterdeck_pool_instances", "Workers by how they are", ["agent", "state"], registry=registry)
    for name, pool in pools.items():
        waiting.labels(name).set(pool.waiting)
        busy.labels(name).set(sum(one.busy for one in pool.instances))
        down = sum(1 for one in pool.instances if one.down)
        well.labels(name, "down").set(down)
        well.labels(name, "up").set(len(pool.instances) - down)
    return generate_latest(registry)


def routes() -> list[Route]:
    async def metrics(_: Request) -> Response:
        return Response(page(office().pools) + METRICS.page(), media_type="text/plain; version=0.0.4")

    return [Route("/metrics", metrics)]
