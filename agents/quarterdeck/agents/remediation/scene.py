"""The incident as the evidence shows it: workloads, pods, log lines, events, nodes, traffic. No judgement yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from quarterdeck.agents.remediation import names
from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.reading import ago, dig, moment, number, rows, span, string, strings, table, whole
from quarterdeck.agents.remediation.signs import harmless

BAD_LEVELS = frozenset({"error", "critical", "fatal"})
OFFLINE = "offline"


@dataclass
class Pod:
    name: str
    service: str
    hash: str
    ready: bool
    status: str
    restarts: int
    restarted_s: float | None
    """Seconds since its last restart, where that is told."""
    age_s: float | None
    cite: str
    node: str = ""
    ends: list[str] = field(default_factory=list)
    """How its containers ended: `exit code 137 (killed: SIGKILL), OOMKilled, 20s ago`."""
    why: list[str] = field(default_factory=list)

    @property
    def sick(self) -> bool:
        return not self.ready and self.status not in ("Completed", "Succeeded", "Terminating")


@dataclass
class Revision:
    number: int
    current: bool
    images: list[str]
    age_s: float | None
    changed: str
    ready: int = 0
    """Pods of it that are ready now."""


@dataclass
class Workload:
    name: str
    kind: str = "Deployment"
    wanted: int | None = None
    ready: int | None = None
    updated: int | None = None
    rollout: str = ""
    why: list[str] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    cites: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Problem:
    """One row of find_problems."""

    what: str
    name: str
    """The service, node or other object that it is about."""
    reason: str
    detail: str
    evidence: tuple[str, ...]
    severity: str
    cite: str

    @property
    def said(self) -> str:
        return " ".join([self.reason, self.detail, *self.evidence])


@dataclass
class Line:
    """Log lines that are alike."""

    service: str
    text: str
    count: int
    level: str
    first: datetime | None
    last: datetime | None
    cite: str
    before: int | None = None
    """How many there were in the window before, where that was compared …"""
    recent: int | None = None
    """… and how many in the window itself."""
    last_words: bool = False
    """Whether a container wrote it before it ended."""


@dataclass(frozen=True)
class Event:
    reason: str
    kind: str
    about: str
    service: str
    message: str
    count: int
    age_s: float | None
    cite: str
    warning: bool
    first_s: float | None = None
    """Seconds since it was first noted, where that is told."""


@dataclass
class Traffic:
    now: float | None = None
    before: float | None = None
    slower: float | None = None
    """How many times longer answers take than before."""
    cites: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        if self.now is None or not self.before or self.before < 1.0:
            return None
        return self.now / self.before


@dataclass
class Scene:
    taken: datetime
    workloads: dict[str, Workload] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    offline: dict[str, str] = field(default_factory=dict)
    """Services that stats calls offline → the evidence."""
    stats: dict[str, str] = field(default_factory=dict)
    """Services as stats names them → as the cluster does."""
    services: dict[str, str] = field(default_factory=dict)
    """Services of the cluster → their address."""
    empty: dict[str, str] = field(default_factory=dict)
    """Services without an endpoint → the evidence."""
    nodes: dict[str, str] = field(default_factory=dict)
    scalers: dict[str, tuple[str, int, int, str]] = field(default_factory=dict)
    """Autoscaler → (service, maximum, now, evidence)."""
    memory: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Pod → what is noted of its use, and the evidence."""
    traffic: Traffic = field(default_factory=Traffic)
    all_pods_listed: bool = False
    answered: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """`tool(arguments)` → why it could not answer."""
    silent: set[str] = field(default_factory=set)
    """Services whose logs could not be read."""
    read: set[str] = field(default_factory=set)
    """Services whose logs were read."""

    @property
    def known(self) -> list[str]:
        return list(dict.fromkeys([*self.workloads, *self.services, *(pod.service for pod in self.pods)]))

    @property
    def addresses(self) -> dict[str, str]:
        return {address: name for name, address in self.services.items() if address}

    def resolve(self, name: str) -> str | None:
        return names.same(name, self.known) or names.host(name, self.known)

    def pods_of(self, service: str, sick: bool = False) -> list[Pod]:
        return [pod for pod in self.pods if pod.service == service and (pod.sick or not sick)]

    def lines_of(self, service: str) -> list[Line]:
        return [line for line in self.lines if line.service == service]

    def sick(self) -> list[str]:
        """Services with pods that are not well, or that a problem is about; the worst first."""
        order = {"high": 0, "medium": 1, "low": 2}
        ranked = sorted(self.problems, key=lambda p: order.get(p.severity, 3))
        named = [p.name for p in ranked if p.name in self.workloads or p.what.startswith(("pods ", "Pod "))]
        return list(dict.fromkeys([*named, *(pod.service for pod in self.pods if pod.sick)]))

    def complaining(self) -> list[tuple[str, int]]:
        counts: dict[str, int] = {}
        for line in self.lines:
            if line.level in BAD_LEVELS or not line.level:
                counts[line.service] = counts.get(line.service, 0) + line.count
        return list(counts.items())

    def age(self, at: datetime | None) -> float | None:
        return None if at is None else max(0.0, (self.taken - at).total_seconds())


def scene_of(evidence: Sequence[Evidence]) -> Scene:
    """Read everything, in an order in which names are known before lines that speak of them."""
    scene = Scene(taken=max((e.taken.astimezone(UTC) for e in evidence), default=datetime.now(UTC)))
    for one in evidence:
        if one.failed:
            scene.failed[_called(one)] = one.failed
            if one.tool.startswith("logs."):
                scene.silent.add(_service_argument(one))
        else:
            scene.answered.add(one.tool)
    readers: tuple[tuple[str, Callable[[Scene, Evidence], None]], ...] = (
        ("kubectl.list_resources", _resources),
        ("kubectl.list_pods", _pods),
        ("kubectl.rollout_status", _rollout),
        ("kubectl.rollout_history", _history),
        ("kubectl.find_problems", _problems),
        ("kubectl.describe_pod", _described),
        ("kubectl.list_events", _events),
        ("kubectl.top_pods", _top),
        ("stats.get_system_stats", _stats),
        ("stats.get_service_status", _status),
        ("stats.list_services", _stats),
        ("stats.get_traffic_metrics", _traffic),
        ("stats.get_traffic_history", _traffic_history),
        ("stats.query_metrics_range", _range),
        ("logs.tail_errors", _errors),
        ("logs.summarize_logs", _digest),
        ("logs.get_service_logs", _tail),
    )
    for tool, reader in readers:
        for one in evidence:
            if one.tool == tool and not one.failed:
                reader(scene, one)
    scene.lines = _without_doubles(scene.lines)
    _reconcile_names(scene)
    return scene


def _reconcile_names(scene: Scene) -> None:
    """Where the cluster did not answer, the names in logs are the best that there are."""
    spoken = {line.service for line in scene.lines if line.service} | {name for name in scene.read if name != "all"}
    for name in list(scene.offline):
        if name not in scene.known and (same := names.same(name, spoken - {name})):
            scene.offline[same] = scene.offline.pop(name)


def _called(one: Evidence) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in one.arguments.items())
    return f"{one.tool}({arguments})"[:160]


def _service_argument(one: Evidence) -> str:
    named = one.arguments.get("service")
    return named if isinstance(named, str) else ""


# The cluster


def _resources(scene: Scene, one: Evidence) -> None:
    kind = string(one.data, "kind")
    for row in table(one.data):
        name = row.get("name", "")
        if not name:
            continue
        if kind in ("deployments", "statefulsets"):
            have, _, wanted = row.get("ready", "").partition("/")
            workload = scene.workloads.setdefault(name, Workload(name))
            workload.kind = "StatefulSet" if kind == "statefulsets" else "Deployment"
            workload.ready, workload.wanted = _int(have), _int(wanted)
            workload.cites.append(one.id)
        elif kind == "services":
            address = row.get("cluster-ip", "")
            scene.services[name] = address if names.is_address(address) else ""
        elif kind == "endpoints" and row.get("endpoints", "") in ("", "<none>"):
            scene.empty[name] = one.id
        elif kind == "nodes":
            scene.nodes[name] = row.get("status", "")
        elif kind == "horizontalpodautoscalers":
            target = row.get("reference", "").rpartition("/")[2]
            most, now = _int(row.get("maxpods", "")), _int(row.get("replicas", ""))
            if target and most is not None and now is not None:
                scene.scalers[name] = (target, most, now, one.id)


def _int(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _pods(scene: Scene, one: Evidence) -> None:
    listed = rows(one.data, "pods")
    scene.all_pods_listed |= whole(one.data, "total") == len(listed) > 0
    for row in listed:
        name = string(row, "name")
        service, hashed = _owner(scene, name)
        have, _, wanted = string(row, "ready").partition("/")
        count, _, since = string(row, "restarts").partition("(")
        scene.pods.append(
            Pod(
                name=name,
                service=service,
                hash=hashed,
                ready=have == wanted and bool(wanted),
                status=string(row, "status"),
                restarts=_int(count.strip()) or 0,
                restarted_s=span(since) if since else None,
                age_s=span(string(row, "age")),
                cite=one.id,
            )
        )


def _owner(scene: Scene, pod: str) -> tuple[str, str]:
    """The workload of a pod: the longest known name that it begins with, else what its name speaks of."""
    name, hashed = names.stem(pod)
    if name in scene.workloads:
        return name, hashed
    starts = [known for known in scene.workloads if pod.startswith(f"{known}-")]
    if starts:
        best = max(starts, key=len)
        return best, pod.removeprefix(f"{best}-").partition("-")[0]
    return name, hashed


def _rollout(scene: Scene, one: Evidence) -> None:
    name = string(one.data, "deployment")
    if not name:
        return
    workload = scene.workloads.setdefault(name, Workload(name))
    workload.rollout, workload.why = string(one.data, "state"), strings(one.data, "why")
    workload.updated = whole(one.data, "updated")
    workload.wanted, workload.ready = whole(one.data, "desired"), whole(one.data, "available")
    workload.cites.append(one.id)


def _history(scene: Scene, one: Evidence) -> None:
    name = string(one.data, "deployment")
    if not name:
        return
    workload = scene.workloads.setdefault(name, Workload(name))
    workload.revisions = sorted(
        (
            Revision(
                whole(row, "revision"),
                dig(row, "current") is True,
                strings(row, "images"),
                span(string(row, "created")),
                string(row, "changed"),
                whole(row, "ready_pods"),
            )
            for row in rows(one.data, "revisions")
        ),
        key=lambda r: -r.number,
    )
    workload.cites.append(one.id)


def _problems(scene: Scene, one: Evidence) -> None:
    for row in rows(one.data, "problems"):
        what = string(row, "what")
        kind, _, name = what.partition(" ")
        name = name.removesuffix("-…").strip() or what
        if kind == "ReplicaSet":
            name = names.replica_set(name)[0]
        elif kind == "Pod":
            name = _owner(scene, name)[0]
        if kind in ("Deployment", "StatefulSet", "DaemonSet") and name not in scene.workloads:
            scene.workloads[name] = Workload(name, kind)
        scene.problems.append(
            Problem(
                what=what,
                name=name,
                reason=string(row, "reason"),
                detail=string(row, "detail"),
                evidence=tuple(strings(row, "evidence")),
                severity=string(row, "severity"),
                cite=one.id,
            )
        )


def _described(scene: Scene, one: Evidence) -> None:
    name = string(one.data, "name")
    pod = next((p for p in scene.pods if p.name == name), None)
    if pod is None:
        service, hashed = _owner(scene, name)
        pod = Pod(name, service, hashed, True, "", 0, None, None, one.id)
        if name:
            scene.pods.append(pod)
    pod.cite = one.id
    pod.node = string(one.data, "node")
    pod.why = strings(one.data, "why_unhealthy")
    pod.ends = [string(c, "last_state") or string(c, "state") for c in rows(one.data, "containers")]
    for row in rows(one.data, "events"):
        scene.events.append(_event(scene, row, one.id))


_ABOUT_POD = re.compile(r"Pod (\S+)")


def _event(scene: Scene, row: dict[str, Any], cite: str) -> Event:
    kind, _, name = string(row, "about").partition(" ")
    service = name
    if kind == "Pod":
        service = _owner(scene, name)[0]
    elif kind == "ReplicaSet":
        service = names.replica_set(name)[0]
    return Event(
        reason=string(row, "reason"),
        kind=kind,
        about=name,
        service=service,
        message=string(row, "message"),
        count=max(1, whole(row, "count")),
        age_s=span(string(row, "last_seen")),
        cite=cite,
        warning=string(row, "type") == "Warning",
        first_s=span(string(row, "first_seen")),
    )


def _events(scene: Scene, one: Evidence) -> None:
    living = {pod.name for pod in scene.pods}
    for row in rows(one.data, "events"):
        event = _event(scene, row, one.id)
        if event.kind == "Pod" and scene.all_pods_listed and event.about not in living:
            continue  # of a pod that is gone: its troubles went with it
        scene.events.append(event)


def _top(scene: Scene, one: Evidence) -> None:
    for row in rows(one.data, "rows"):
        if note := string(row, "note"):
            scene.memory[string(row, "name")] = (note, one.id)


# Stats


def _stats(scene: Scene, one: Evidence) -> None:
    for row in rows(one.data, "services"):
        _status_of(scene, string(row, "name"), string(row, "status"), one.id)


def _status(scene: Scene, one: Evidence) -> None:
    _status_of(scene, string(one.data, "service"), string(one.data, "status"), one.id)


def _status_of(scene: Scene, name: str, status: str, cite: str) -> None:
    if not name:
        return
    service = scene.resolve(name) or name
    scene.stats[name] = service
    if status == OFFLINE:
        scene.offline[service] = cite


def _traffic(scene: Scene, one: Evidence) -> None:
    traffic = scene.traffic
    now, before = number(one.data, "figures", "requests_per_second"), number(one.data, "baseline_requests_per_second")
    traffic.now = now if now is not None else traffic.now
    if before is not None:
        traffic.before = before
    if slower := re.search(r"response time .{0,40}\(×(\d{1,6}(?:\.\d)?)\)", string(one.data, "change")):
        traffic.slower = float(slower[1])
    traffic.cites.append(one.id)


def _traffic_history(scene: Scene, one: Evidence) -> None:
    points = [
        (rate, number(row, "avg_response_time_ms"))
        for row in rows(one.data, "points")
        if (rate := number(row, "requests_per_second")) is not None
    ]
    _compare(scene, [rate for rate, _ in points], one.id)


_POINT = re.compile(r"\d\d:\d\d:\d\d ([\d.e+]{1,20})$")


def _range(scene: Scene, one: Evidence) -> None:
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


# Logs


_RESTARTED = "before its restart"


def _errors(scene: Scene, one: Evidence) -> None:
    _mark_read(scene, one)
    asked = _service_argument(one)
    for row in rows(one.data, "errors"):
        where = string(row, "where")
        services = [_source(scene, part) for part in where.split(" and ")[0].split(", ") if part.strip()]
        if asked and asked != "all":
            services = [scene.resolve(asked) or asked]
        last = moment(string(row, "last"), scene.taken)
        first = moment(string(row, "first"), scene.taken) or last
        for service in dict.fromkeys(services):
            text = string(row, "text")
            count = max(1, whole(row, "count"))
            scene.lines.append(
                Line(service, text, count, _level(text) or "error", first, last, one.id, last_words=_RESTARTED in where)
            )


def _source(scene: Scene, where: str) -> str:
    """The service of `pod`, `pod/container`, `pod (before its restart)`, or of a stream that bears its name."""
    part = where.split(" (")[0].strip().split("/")[0]
    if part in scene.workloads:
        return part
    return _owner(scene, part)[0]


def _digest(scene: Scene, one: Evidence) -> None:
    _mark_read(scene, one)
    service = scene.resolve(_service_argument(one)) or _service_argument(one)
    for row in rows(one.data, "kinds"):
        text = string(row, "example") or string(row, "template")
        before = number(row, "before")
        scene.lines.append(
            Line(
                service,
                text,
                max(1, whole(row, "count")),
                string(row, "level"),
                moment(string(row, "first"), scene.taken),
                moment(string(row, "last"), scene.taken),
                one.id,
                None if before is None else int(before),
                max(1, whole(row, "count")),
            )
        )


_CLOCK = re.compile(
    r"(?:\d{4}-\d\d-\d\dT)?(\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z? (?:\S+(?: \(before its restart\))? )??(.*)", re.DOTALL
)


def _tail(scene: Scene, one: Evidence) -> None:
    _mark_read(scene, one)
    service = scene.resolve(_service_argument(one)) or _service_argument(one)
    for row in strings(one.data, "lines"):
        level = _level(row)
        if level in ("info", "debug"):
            continue
        found = _CLOCK.match(row)
        at = moment(found[1], scene.taken) if found else None
        text = found[2] if found else row
        scene.lines.append(Line(service, text, 1, level, at, at, one.id, last_words=_RESTARTED in row[:200]))


def _mark_read(scene: Scene, one: Evidence) -> None:
    service = _service_argument(one)
    notes = " ".join(strings(one.data, "notes"))
    if "time was up" in notes and not rows(one.data, "errors") and not rows(one.data, "kinds"):
        scene.silent.add(service)
    else:
        scene.read.add(scene.resolve(service) or service)


_LEVEL = re.compile(
    r"\b(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|ERR|SEVERE|CRITICAL|FATAL|PANIC)\b|\"(?:level|severity|lvl)\": ?\"(\w+)\"|\blevel=\"?(\w+)"
)
_LEVELS = {
    "trace": "debug", "debug": "debug", "info": "info", "notice": "info", "warn": "warning", "warning": "warning",
    "error": "error", "err": "error", "severe": "error", "critical": "critical", "fatal": "critical",
    "panic": "critical", "log": "info",
}  # fmt: skip


def _level(text: str) -> str:
    found = _LEVEL.search(text[:200])
    return _LEVELS.get((found[1] or found[2] or found[3]).lower(), "") if found else ""


def _without_doubles(lines: Iterable[Line]) -> list[Line]:
    """The same lines are told by several tools: keep each once, with the most that is known of it."""
    kept: dict[tuple[str, str], Line] = {}
    for line in lines:
        if harmless(line.text):
            continue
        key = (line.service, " ".join(re.sub(r"\d+", "0", line.text).split())[:160])
        old = kept.get(key)
        if old is None:
            kept[key] = line
            continue
        old.count = max(old.count, line.count)
        if old.before is None:
            old.before, old.recent = line.before, line.recent
        old.last_words |= line.last_words
        old.level = old.level or line.level
        old.text = max(old.text, line.text, key=len)
        old.first = min((t for t in (old.first, line.first) if t is not None), default=None)
        old.last = max((t for t in (old.last, line.last) if t is not None), default=None)
    return list(kept.values())


def at_age(scene: Scene, seconds: float | None) -> datetime | None:
    if seconds is None or not 0 <= seconds < 1e9:
        return None
    return scene.taken - timedelta(seconds=seconds)


def ended_ago(pod: Pod) -> float | None:
    return min((s for text in pod.ends if (s := ago(text)) is not None), default=pod.restarted_s)
