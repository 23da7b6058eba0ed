"""What the stats server tells, put into the scene."""

from __future__ import annotations

import re

from quarterdeck.agents.remediation.fields import number, rows, string, strings
from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.scene import OFFLINE, Scene


def services(scene: Scene, one: Evidence) -> None:
    for row in rows(one.data, "services"):
        _status_of(scene, string(row, "name"), string(row, "status"), one.id)


def service(scene: Scene, one: Evidence) -> None:
    _status_of(scene, string(one.data, "service"), string(one.data, "status"), one.id)


def _status_of(scene: Scene, name: str, status: str, cite: str) -> None:
    if not name:
        return
    service = scene.resolve(name) or name
    scene.stats[name] = service
    if status == OFFLINE:
        scene.offline[service] = cite


def traffic(scene: Scene, one: Evidence) -> None:
    traffic = scene.traffic
    now, before = number(one.data, "figures", "requests_per_second"), number(one.data, "baseline_requests_per_second")
    traffic.now = now if now is not None else traffic.now
    if before is not None:
        traffic.before = before
    if slower := re.search(r"response time .{0,40}\(×(\d{1,6}(?:\.\d)?)\)", string(one.data, "change")):
        traffic.slower = float(slower[1])
    traffic.cites.append(one.id)


def traffic_history(scene: Scene, one: Evidence) -> None:
    points = [
        (rate, number(row, "avg_response_time_ms"))
        for row in rows(one.data, "points")
        if (rate := number(row, "requests_per_second")) is not None
    ]
    _compare(scene, [rate for rate, _ in points], one.id)


_POINT = re.compile(r"\d\d:\d\d:\d\d ([\d.e+]{1,20})$")


def rates(scene: Scene, one: Evidence) -> None:
    series = rows(one.data, "series")
    if "requests" not in string(one.arguments, "query") or len(series) != 1:
        return
    found = [_POINT.match(point) for point in strings(series[0], "points")]
    rates = []
    for point in found:
        try:
            rates += [float(point[1])] if point else []
        except ValueError:
            continue
    _compare(scene, rates, one.id)


def _compare(scene: Scene, rates: list[float], cite: str) -> None:
    """The newest rate against the middle of the older ones, where nothing better was told."""
    traffic = scene.traffic
    if len(rates) < 6:
        return
    older = sorted(rates[: len(rates) * 2 // 3])
    middle = older[len(older) // 2]
    traffic.cites.append(cite)
    if traffic.before is None or (traffic.ratio or 1.0) < (traffic.now or rates[-1]) / (middle or 1e9):
        traffic.before = middle
    if traffic.now is None:
        traffic.now = rates[-1]
