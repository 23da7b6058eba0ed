"""The face of the stats server: thin tools over the sources."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastmcp import FastMCP
from fastmcp.exceptions import ResourceError
from pydantic import Field

from quarterdeck.keel.answers import clip, fit
from quarterdeck.keel.durations import parse_duration, parse_since
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings
from quarterdeck.keel.tools import look, new_server
from quarterdeck.stats.models import (
    Health,
    History,
    Metrics,
    Point,
    Series,
    ServiceList,
    ServiceStatus,
    SystemStats,
    Traffic,
)
from quarterdeck.stats.sampling import Sampler
from quarterdeck.stats.sources import Source, find, outside
from quarterdeck.stats.trends import thin

INSTRUCTIONS = """\
Live figures of a running system: which services are online or offline, requests per second, response time, success
rate, and how traffic changed against the last minutes. Start with get_system_stats. When a service is offline, go on
with the kubectl server (find_problems) and the logs server (tail_errors). All tools only read."""

ServiceName = Annotated[str, Field(description="e.g. blog_service, auth, api-gateway", max_length=100)]


def create_server(settings: Settings) -> FastMCP[Any]:
    source = _source(settings)
    sampler = Sampler(source, settings.stats.sample_every_s)
    server = new_server("stats", INSTRUCTIONS, settings, lifespan=sampler.lifespan)

    async def read() -> Any:
        reading = await source.read()
        sampler.add(reading)
        return reading

    @look(server)
    async def get_system_stats() -> SystemStats:
        """The whole system at a glance: each service online or offline, traffic, and what changed. Start here."""
        reading = await read()
        offline = [s.name for s in reading.services if s.status == "offline"]
        unknown = [s.name for s in reading.services if s.status == "unknown"]
        if offline:
            verdict = f"{len(offline)} of {len(reading.services)} services OFFLINE: {', '.join(offline)}"
        elif unknown:
            verdict = f"no service is offline, but {', '.join(unknown)} did not say"
        else:
            verdict = f"all {len(reading.services)} services are online"
        ordered = sorted(reading.services, key=lambda s: ("offline", "unknown", "online").index(s.status))
        after = "find_problems of the kubectl server and tail_errors of the logs server say why." if offline else None
        return fit(
            lambda n: SystemStats(
                verdict=clip(verdict, 400),
                services=ordered[:n],
                traffic=reading.figures,
                traffic_change=sampler.trend().words,
                next=after,
            ),
            len(ordered),
        )

    @look(server)
    async def get_service_status(service_name: ServiceName) -> ServiceStatus:
        """One service: online or offline, its error, and the figures it reports itself. Names: list_services."""
        reading = await read()
        known = [s.name for s in reading.services] + [n for n in reading.fields if n in ("database", "cache")]
        name = find(service_name, known)
        status = next((s.status for s in reading.services if s.name == name), "unknown")
        entry = reading.fields.get(name, {})
        flat = list(_flatten(entry))
        return fit(
            lambda n: ServiceStatus(
                service=name,
                status=status,
                error=outside(entry["error"], 400) if entry.get("error") else None,
                fields=dict(flat[:n]),
                left_out=len(flat) - n or None,
            ),
            len(flat),
        )

    @look(server)
    async def get_traffic_metrics() -> Traffic:
        """Requests per second, response time (both over the last 10 s) and success rate (lifetime), and how they
        compare with the last 10 minutes: surge, drop or steady."""
        reading = await read()
        trend = sampler.trend()
        return Traffic(
            figures=reading.figures,
            change=trend.words,
            baseline_requests_per_second=trend.baseline,
            sampled_minutes=sampler.minutes,
        )

    @look(server)
    async def check_health(service_name: ServiceName) -> Health:
        """Ask one service's own health address right now, past the load balancer's view of it."""
        addresses = settings.stats.services
        name = find(service_name, list(addresses), "service with a health address")
        return await _health(name, addresses[name], settings.stats.timeout_s)

    @look(server)
    async def list_services() -> ServiceList:
        """The names of all services, for the other tools."""
        reading = await read()
        checks = list(settings.stats.services)
        return fit(
            lambda n: ServiceList(source=source.name, services=reading.services[:n], health_checks=checks[:60]),
            len(reading.services),
        )

    @look(server)
    async def get_traffic_history(
        since: Annotated[str, Field(description="how far back, e.g. 10m or 1h (at most 1h)", max_length=40)] = "10m",
    ) -> History:
        """Traffic over the last minutes as this server sampled it while it ran, with the trend in words."""
        span = _duration(since)
        samples = sampler.since(span.total_seconds())
        shown = thin(samples, 60)
        note = sampler.problem and f"sampling has a problem now: {sampler.problem}"
        if not samples:
            note = (
                note
                or f"No samples yet: one is taken every {settings.stats.sample_every_s:g} s while this server runs."
            )
        points = [
            Point(
                at=datetime.fromtimestamp(s.at, UTC).isoformat(timespec="seconds"),
                requests_per_second=s.requests_per_second,
                avg_response_time_ms=s.avg_response_time_ms,
                offline=list(s.offline[:5]) or None,
            )
            for s in shown
        ]
        trend = sampler.trend().words
        return fit(
            lambda n: History(
                trend=trend, sampled_minutes=sampler.minutes, points=points[len(points) - n :], note=note
            ),
            len(points),
        )

    @look(server)
    async def query_metrics(
        query: Annotated[str, Field(description="PromQL, at most 2000 characters", max_length=2000)],
        at: Annotated[
            str | None, Field(description="RFC 3339 time or e.g. 10m ago; default now", max_length=40)
        ] = None,
    ) -> Metrics:
        """Ask Prometheus one PromQL query for one moment. Shows at most 60 series; aggregate to see less."""
        from quarterdeck.stats.prometheus import Prometheus, say_labels, say_number

        answer = await Prometheus(settings.stats).query(query, _since(at) if at else None)
        if answer.get("matrix"):
            raise Refusal(
                "That is a range of points. Use query_metrics_range, or wrap it in rate(), last_over_time() …"
            )
        rows = [
            Series(labels=say_labels(row["metric"]), value=row.get("text") or say_number(row["value"]))
            for row in answer["rows"]
        ]
        return _metrics(query, rows, answer["warnings"])

    @look(server)
    async def query_metrics_range(
        query: Annotated[str, Field(description="PromQL, at most 2000 characters", max_length=2000)],
        since: Annotated[str, Field(description="start, e.g. 30m or an RFC 3339 time", max_length=40)] = "30m",
        step: Annotated[str | None, Field(description="e.g. 30s; chosen to fit by default", max_length=20)] = None,
    ) -> Metrics:
        """Ask Prometheus how a PromQL query developed from `since` until now: thinned points, lowest and highest."""
        from quarterdeck.stats.prometheus import MOST_POINTS, Prometheus, say_series

        start, end = _since(since), datetime.now(UTC)
        seconds = max(1.0, (end - start).total_seconds())
        wanted = _duration(step).total_seconds() if step else max(1.0, seconds / MOST_POINTS)
        if seconds / wanted > 5_000:
            raise Refusal(f"{seconds / wanted:.0f} points are too many (5,000 at most). Take a larger step.")
        answer = await Prometheus(settings.stats).query_range(query, start, end, wanted)
        return _metrics(query, [say_series(row) for row in answer["rows"][:200]], answer["warnings"])

    @server.resource("stats://services", mime_type="application/json")
    async def services() -> str:
        """All services and their status, as JSON."""
        try:
            reading = await read()
        except Refusal as error:
            raise ResourceError(str(error)) from None
        return json.dumps({"services": [s.model_dump(exclude_none=True) for s in reading.services]})

    return server


def _source(settings: Settings) -> Source:
    if settings.stats.source == "prometheus":
        from quarterdeck.stats.prometheus import Prometheus

        return Prometheus(settings.stats)
    from quarterdeck.stats.balancer import Balancer

    return Balancer(settings.stats)


def _metrics(query: str, rows: list[Series], warnings: list[str]) -> Metrics:
    result = f"{len(rows)} series" if rows else "no data: the query is right, but nothing matches it now"
    most = min(len(rows), 60)
    return fit(
        lambda n: Metrics(
            query=clip(query, 300),
            result=result,
            series=rows[:n],
            left_out=len(rows) - n or None,
            warnings=warnings or None,
        ),
        most,
    )


async def _health(name: str, url: str, timeout_s: float) -> Health:
    import httpx

    from quarterdeck.keel import web

    started = time.perf_counter()
    try:
        async with web.client(timeout_s) as http, http.stream("GET", url) as response:
            status = response.status_code
    except httpx.ConnectError:
        return Health(service=name, healthy=False, detail="the connection was refused: nothing listens there")
    except httpx.TimeoutException:
        return Health(service=name, healthy=False, detail=f"no answer within {timeout_s:g} s: it hangs or is cut off")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Health(service=name, healthy=False, detail=f"the connection broke ({type(error).__name__})")
    took = round((time.perf_counter() - started) * 1000, 1)
    healthy = 200 <= status < 300
    detail = f"answered {status} in {took:g} ms"
    return Health(service=name, healthy=healthy, http_status=status, answer_ms=took, detail=detail)


def _flatten(entry: dict[str, Any], prefix: str = "", depth: int = 0) -> Any:
    for key, value in list(entry.items())[:200]:
        name = f"{prefix}{outside(key, 60)}"
        if isinstance(value, dict) and depth < 3:
            yield from _flatten(value, f"{name}.", depth + 1)
        elif isinstance(value, bool | int | float) or value is None:
            yield name, value
        else:
            yield name, outside(value)


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Refusal(str(error)) from None


def _since(text: str) -> datetime:
    try:
        return parse_since(text)
    except ValueError as error:
        raise Refusal(str(error)) from None
