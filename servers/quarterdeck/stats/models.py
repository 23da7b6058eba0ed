"""What the tools of the stats server answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from quarterdeck.keel.answers import Answer

Status = Literal["online", "offline", "unknown"]


class Figures(BaseModel):
    """Traffic through the load balancer at one moment."""

    requests_per_second: float | None = None
    avg_response_time_ms: float | None = None
    success_rate_percent: float | None = None
    total_requests: int | None = None
    has_real_traffic: bool | None = None

    def words(self) -> str:
        said = []
        if self.requests_per_second is not None:
            said.append(f"{self.requests_per_second:g} requests/s")
        if self.avg_response_time_ms is not None:
            said.append(f"{self.avg_response_time_ms:g} ms on average")
        if self.success_rate_percent is not None:
            said.append(f"{self.success_rate_percent:g} % successful (lifetime)")
        return ", ".join(said) or "no traffic figures"


class Service(BaseModel):
    name: str
    status: Status
    detail: str | None = None


class SystemStats(Answer):
    verdict: str
    services: list[Service]
    traffic: Figures
    traffic_change: str | None = None
    next: str | None = None

    def text(self) -> str:
        rows = [f"{s.status.upper():<8} {s.name:<16} {s.detail or ''}".rstrip() for s in self.services]
        change = [f"change   {self.traffic_change}"] if self.traffic_change else []
        after = [f"next     {self.next}"] if self.next else []
        return "\n".join([self.verdict, *rows, f"traffic  {self.traffic.words()}", *change, *after])


class ServiceStatus(Answer):
    service: str
    status: Status
    error: str | None = None
    fields: dict[str, Any]
    left_out: int | None = None

    def text(self) -> str:
        rows = [f"{key}: {value}" for key, value in self.fields.items()]
        error = [f"error (reported by the service): {self.error}"] if self.error else []
        more = [f"({self.left_out} more fields left out)"] if self.left_out else []
        return "\n".join([f"{self.service} is {self.status}", *error, *rows, *more])


class Traffic(Answer):
    figures: Figures
    change: str
    baseline_requests_per_second: float | None = None
    sampled_minutes: float

    def text(self) -> str:
        return f"{self.figures.words()}\n{self.change}"


class Health(Answer):
    service: str
    healthy: bool
    http_status: int | None = None
    answer_ms: float | None = None
    detail: str

    def text(self) -> str:
        return f"{self.service} is {'healthy' if self.healthy else 'NOT healthy'}: {self.detail}"


class ServiceList(Answer):
    source: str
    services: list[Service]
    health_checks: list[str]

    def text(self) -> str:
        rows = [f"{s.status:<8} {s.name}" for s in self.services]
        return "\n".join([f"services by {self.source}:", *rows, f"check_health knows: {', '.join(self.health_checks)}"])


class Point(BaseModel):
    at: str
    requests_per_second: float | None = None
    avg_response_time_ms: float | None = None
    offline: list[str] | None = None


class History(Answer):
    trend: str
    sampled_minutes: float
    points: list[Point]
    note: str | None = None

    def text(self) -> str:
        rows = [
            f"{p.at[11:19]}  {_figure(p.requests_per_second):>8} req/s  {_figure(p.avg_response_time_ms):>8} ms"
            + (f"  offline: {', '.join(p.offline)}" if p.offline else "")
            for p in self.points
        ]
        return "\n".join([self.trend, *rows, *([self.note] if self.note else [])])


class Series(BaseModel):
    labels: str
    value: str | None = None
    points: list[str] | None = None
    summary: str | None = None


class Metrics(Answer):
    query: str
    result: str
    series: list[Series]
    left_out: int | None = None
    warnings: list[str] | None = None

    def text(self) -> str:
        rows = []
        for series in self.series:
            rows.append(f"{series.labels}  {series.value or series.summary or ''}")
            rows += [f"    {point}" for point in series.points or []]
        more = [f"({self.left_out} more left out: narrow the selector or aggregate)"] if self.left_out else []
        return "\n".join([self.result, *rows, *more, *[f"warning: {w}" for w in self.warnings or []]])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
