"""The load balancer's `/stats`: one JSON object with the balancer's own figures and an entry for each service."""

from __future__ import annotations

import math
from typing import Any

from quarterdeck.keel import web
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import StatsSettings
from quarterdeck.stats.models import Figures, Service, Status
from quarterdeck.stats.sources import Reading, outside

OWN = "load-balancer"
COPIED = ("database", "cache")
"""Entries that the balancer copies up from user_service: parts of it, not services."""
MOST_SERVICES = 200


class Balancer:
    name = "the load balancer's /stats"

    def __init__(self, settings: StatsSettings) -> None:
        self._settings = settings

    async def read(self) -> Reading:
        url = f"{self._settings.url.rstrip('/')}/stats"
        what = "The load balancer (stats.url)"
        async with web.client(self._settings.timeout_s) as http:
            response = await web.get(http, url, what, total_s=self._settings.timeout_s * 2)
        if response.status_code != 200:
            raise Refusal(f"{what} answered {response.status_code} for /stats. Is stats.url its address?")
        return parse(web.json_of(response, what))


def parse(body: Any) -> Reading:
    """Any JSON at all → a reading; what is not as promised is left out, what is no object is refused."""
    if not isinstance(body, dict):
        raise Refusal("The load balancer's /stats is JSON, but not an object. Is stats.url its address?")
    own = body.get(OWN)
    own = own if isinstance(own, dict) else {}
    total = number(own.get("total_requests"))
    figures = Figures(
        requests_per_second=number(own.get("requests_per_second")),
        avg_response_time_ms=number(own.get("avg_response_time_ms")),
        success_rate_percent=number(own.get("success_rate")),
        total_requests=int(total) if total is not None else None,
        has_real_traffic=own.get("has_real_traffic") if isinstance(own.get("has_real_traffic"), bool) else None,
    )
    services, fields = [], {}
    for key, entry in list(body.items())[:MOST_SERVICES]:
        name = outside(key, 60)
        if key in COPIED or not isinstance(entry, dict):
            continue
        if key == OWN:
            services.append(Service(name=name, status="online", detail=_detail(entry)))
        else:
            services.append(Service(name=name, status=_status(entry), detail=_detail(entry)))
        fields[name] = entry
    for key in COPIED:
        if isinstance(body.get(key), dict):
            fields[key] = body[key]
    return Reading(figures, services, fields)


def number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return round(float(value), 3) if math.isfinite(value) else None
    except OverflowError:
        return None


def _status(entry: dict[str, Any]) -> Status:
    match entry.get("service_status"):
        case "online":
            return "online"
        case "offline":
            return "offline"
        case _:
            return "unknown"


def _detail(entry: dict[str, Any]) -> str | None:
    error = entry.get("error")
    return f"says: {outside(error)}" if error else None
