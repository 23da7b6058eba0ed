"""A cause in the making, and how much a log line weighs for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from quarterdeck.agents.remediation.graph import Graph
from quarterdeck.agents.remediation.models import Kind
from quarterdeck.agents.remediation.scene import Line, Scene
from quarterdeck.agents.remediation.signs import Sign, signs_in

FRESH_S, STALE_S = 360.0, 1200.0
"""Log lines younger than the first count in full, older than the second hardly."""
ENOUGH = 0.35
"""From this confidence on a suspicion is a cause."""
SURGE, SLOW = 1.5, 1.5
SYMPTOMS: frozenset[Kind] = frozenset({"readiness_failing", "liveness_failing", "crash_loop", "unknown"})


@dataclass
class Suspicion:
    """A cause in the making."""

    kind: Kind
    service: str
    confidence: float
    words: str
    cites: list[str] = field(default_factory=list)
    since: datetime | None = None
    about: str = ""
    """For complaints: whom it is about."""
    outside: bool = False
    solid: bool = False
    """Whether the cluster or the figures show harm, not only a log line."""
    affects: dict[str, None] = field(default_factory=dict)

    def cite(self, *cites: str) -> None:
        for cite in cites:
            if cite not in self.cites:
                self.cites.append(cite)


def told(scene: Scene, service: str, crashed: bool, began_s: float | None = None) -> list[tuple[float, Line, Sign]]:
    """What the log of a service says, weighed: fresh, new and bad lines count most, last words of a crash more."""
    found: dict[tuple[Kind, str], tuple[float, Line, Sign]] = {}
    for line in scene.lines_of(service):
        if line.level in ("info", "debug"):
            continue
        for sign in signs_in(line.text):
            score = sign.weight * freshness(scene, line) * (1.0 if line.level != "warning" else 0.7)
            if not crashed and line.count >= 3 and stopped(line, 3.0):
                score *= 0.7
            age = scene.age(line.first)
            if began_s is not None and age is not None and age > 2 * began_s + 20:
                score *= 0.6  # it said so long before the trouble began
            if crashed and line.last_words:
                score = min(0.97, score * 1.05)
            key = (sign.kind, "")
            if key not in found or score > found[key][0]:
                found[key] = (score, line, sign)
    return sorted((one for one in found.values() if one[0] >= ENOUGH), key=lambda one: -one[0])


def stopped(line: Line, grace_s: float) -> bool:
    """Whether a line had not come for long when it was read, measured by how often it came."""
    if line.read is None or line.first is None or line.last is None:
        return False
    every = (line.last - line.first).total_seconds() / max(1, line.count - 1)
    return (line.read - line.last).total_seconds() > 10 * every + grace_s


def freshness(scene: Scene, line: Line) -> float:
    """Old lines, and those that came as often before, explain little of what is wrong now."""
    age = scene.age(line.last)
    score = 1.0 if age is None or age <= FRESH_S else 0.6 if age <= STALE_S else 0.25
    if line.before is not None and line.before > 0:
        share = line.before / max(1, line.recent or line.count)
        score *= 0.3 if share >= 0.5 else 0.7 if share >= 0.2 else 1.0
    return score


def name_target(graph: Graph, found: Suspicion, line: Line) -> None:
    for complaint in graph.complaints:
        if complaint.line is line and complaint.kind == found.kind:
            found.about, found.outside = complaint.about, complaint.outside
            return
