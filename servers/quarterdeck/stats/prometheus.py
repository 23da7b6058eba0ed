"""Prometheus' HTTP API: the same reading derived from common metrics, and PromQL for who can write it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from quarterdeck.keel import web
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import StatsSettings
from quarterdeck.stats.models import Figures, Series, Service
from quarterdeck.stats.sources import Reading, outside

WHAT = "Prometheus (stats.prometheus_url)"
MOST_SERIES = 60
MOST_POINTS = 24
LONGEST_QUERY = 2_000

# The first of each that has an answer is used; they cover the usual client libraries and meshes.
RATE = (
    "sum(rate(http_requests_total[1m]))",
    "sum(rate(http_server_requests_seconds_count[1m]))",
    "sum(rate(http_request_duration_seconds_count[1m]))",
    "sum(rate(istio_requests_total[1m]))",
)
TIME_MS = (
    "1000 * sum(rate(http_request_duration_seconds_sum[1m])) / sum(rate(http_request_duration_seconds_count[1m]))",
    "1000 * sum(rate(http_server_requests_seconds_sum[1m])) / sum(rate(http_server_requests_seconds_count[1m]))",
)
SUCCESS = (
    '100 - 100 * sum(rate(http_requests_total{code=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))',
    '100 - 100 * sum(rate(http_requests_total{status=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))',
)


class Prometheus:
    name = "Prometheus"

    def __init__(self, settings: StatsSettings) -> None:
        if not settings.prometheus_url:
            raise Refusal(
                "No Prometheus is configured. Set QUARTERDECK_STATS_PROMETHEUS_URL, for example http://127.0.0.1:9090."
            )
        self._settings = settings

    async def read(self) -> Reading:
        up = await self.query("max by (job) (up)")
        services = [
            Service(
                name=outside(row["metric"].get("job", "?"), 60), status="online" if row["value"] == 1 else "offline"
            )
            for row in up["rows"][:MOST_SERIES]
        ]
        used: list[str] = []
        rate = await self._first(RATE, used)
        took = await self._first(TIME_MS, used)
        success = await self._first(SUCCESS, used)
        figures = Figures(requests_per_second=rate, avg_response_time_ms=took, success_rate_percent=success)
        return Reading(figures, services, {}, f"derived with: up; {'; '.join(used)}")

    async def _first(self, queries: tuple[str, ...], used: list[str]) -> float | None:
        for query in queries:
            rows = (await self.query(query))["rows"]
            value: float | None = rows[0]["value"] if rows else None
            if value is not None:
                used.append(query)
                return round(value, 3)
        return None

    async def query(self, query: str, at: datetime | None = None) -> dict[str, Any]:
        """An instant query: {"rows": [{"metric": …, "value": …}], "warnings": […]}."""
        parameters = {"query": _checked(query), **({"time": at.timestamp()} if at else {})}
        data, warnings = await self._get("query", parameters)
        kind, result = data.get("resultType"), data.get("result")
        if kind in ("scalar", "string") and isinstance(result, list) and len(result) == 2:
            return {"rows": [{"metric": {}, "value": _number(result[1]), "text": str(result[1])}], "warnings": warnings}
        rows = [
            {"metric": row.get("metric", {}), "value": _number((row.get("value") or [0, "NaN"])[1])}
            for row in result or []
            if isinstance(row, dict) and "value" in row
        ]
        return {"rows": rows, "warnings": warnings, "matrix": kind == "matrix"}

    async def query_range(self, query: str, start: datetime, end: datetime, step_s: float) -> dict[str, Any]:
        parameters = {"query": _checked(query), "start": start.timestamp(), "end": end.timestamp(), "step": step_s}
        data, warnings = await self._get("query_range", parameters)
        rows = []
        for row in data.get("result") or []:
            values = [(float(at), _number(value)) for at, value in row.get("values", [])]
            rows.append({"metric": row.get("metric", {}), "values": [v for v in values if v[1] is not None]})
        return {"rows": rows, "warnings": warnings}

    async def _get(self, path: str, parameters: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        token = self._settings.prometheus_token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self._settings.prometheus_url.rstrip('/')}/api/v1/{path}"
        async with web.client(self._settings.timeout_s, headers) as http:
            response = await web.get(http, url, WHAT, params=parameters, total_s=self._settings.timeout_s * 2)
        if response.status_code in (401, 403):
            raise Refusal(f"{WHAT} refused the credentials ({response.status_code}). Check stats.prometheus_token.")
        body = web.json_of(response, WHAT)
        if not isinstance(body, dict) or body.get("status") != "success":
            error = body.get("error") if isinstance(body, dict) else None
            raise Refusal(f"Prometheus refused the query: {outside(error or response.status_code, 300)}.")
        data = body.get("data")
        return data if isinstance(data, dict) else {}, [outside(w) for w in (body.get("warnings") or [])[:5]]


def _checked(query: str) -> str:
    if not query.strip():
        raise Refusal("The query is empty. Write PromQL such as 'sum by (service) (rate(http_requests_total[5m]))'.")
    if len(query) > LONGEST_QUERY:
        raise Refusal(f"The query has {len(query)} characters; {LONGEST_QUERY} are allowed.")
    return query


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def say_labels(metric: dict[str, Any]) -> str:
    name = str(metric.get("__name__", ""))
    labels = ", ".join(f'{key}="{value}"' for key, value in metric.items() if key != "__name__")
    return outside(f"{name}{{{labels}}}" if labels else name or "value", 240)


def say_number(value: float | None) -> str:
    return "no value" if value is None else f"{value:.6g}"


def say_series(row: dict[str, Any]) -> Series:
    """One range, thinned; its lowest and highest stay in the summary."""
    values = row["values"]
    if not values:
        return Series(labels=say_labels(row["metric"]), summary="no points")
    low, high = min(values, key=lambda p: p[1]), max(values, key=lambda p: p[1])
    summary = (
        f"first {say_number(values[0][1])}, last {say_number(values[-1][1])}, "
        f"lowest {say_number(low[1])} at {_clock(low[0])}, highest {say_number(high[1])} at {_clock(high[0])}"
    )
    step = max(1, -(-len(values) // MOST_POINTS))
    points = [f"{_clock(at)} {say_number(value)}" for at, value in values[::step]]
    return Series(labels=say_labels(row["metric"]), points=points, summary=summary)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
