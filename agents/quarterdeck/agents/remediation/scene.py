"""The incident as the evidence shows it: workloads, pods, log lines, events, nodes, traffic. No judgement yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from quarterdeck.agents.remediation import names
from quarterdeck.agents.remediation.fields import ago

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
    env: list[str] = field(default_factory=list)
    """Names of its environment variables."""

    @property
    def ends_badly(self) -> bool:
        return any("exit code" in text and "exit code 0" not in text for text in self.ends)

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
    read: datetime | None = None
    """When the log was read."""
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
    ports: dict[int, list[str]] = field(default_factory=dict)
    """Port → the services of the cluster that listen on it."""
    empty: dict[str, str] = field(default_factory=dict)
    """Services without an endpoint → the evidence."""
    nodes: dict[str, str] = field(default_factory=dict)
    scalers: dict[str, tuple[str, int, int, str]] = field(default_factory=dict)
    """Autoscaler → (service, maximum, now, evidence)."""
    memory: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Pod → what is noted of its use, and the evidence."""
    traffic: Traffic = field(default_factory=Traffic)
    warming: set[str] = field(default_factory=set)
    """Services whose newest revision is on its way: some pods are not ready yet, and nothing speaks against them."""
    owners: dict[str, str] = field(default_factory=dict)
    """Pod → its service, where the cluster says it."""
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


def at_age(scene: Scene, seconds: float | None) -> datetime | None:
    if seconds is None or not 0 <= seconds < 1e9:
        return None
    return scene.taken - timedelta(seconds=seconds)


def ended_ago(pod: Pod) -> float | None:
    return min((s for text in pod.ends if (s := ago(text)) is not None), default=pod.restarted_s)
