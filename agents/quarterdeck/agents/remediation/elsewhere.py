"""What ails no single service that is down: nodes, traffic, autoscalers, and errors of services that are well."""

from __future__ import annotations

import re

from quarterdeck.agents.remediation import names
from quarterdeck.agents.remediation.graph import Graph
from quarterdeck.agents.remediation.models import Kind
from quarterdeck.agents.remediation.scene import Scene
from quarterdeck.agents.remediation.signs import COMPLAINTS
from quarterdeck.agents.remediation.suspicion import ENOUGH, SLOW, STALE_S, SURGE, Suspicion, name_target, told
from quarterdeck.agents.remediation.troubles import Trouble

OF_STARTS: frozenset[Kind] = frozenset({"crash_loop", "bad_configuration", "port_in_use"})
"""What keeps a service from starting: one that runs well only talks of what its users did wrong."""
_OF_SYSTEM = re.compile(
    r"EACCES|EPERM|Errno 13|os error 13|PermissionError|AccessDeniedException|read-?only", re.IGNORECASE
)


def nodes(scene: Scene) -> list[Suspicion]:
    found = []
    for problem in scene.problems:
        if not problem.what.startswith("Node "):
            continue
        if problem.reason == "NotReady":
            found.append(Suspicion("node_not_ready", problem.name, 0.95, problem.detail, [problem.cite], solid=True))
        elif problem.reason == "DiskPressure":
            found.append(Suspicion("disk_full", problem.name, 0.8, problem.detail, [problem.cite], solid=True))
    named = {one.service for one in found}
    for one in scene.problems:
        if one.what.startswith("Node ") and one.reason not in ("NotReady", "DiskPressure", "cordoned"):
            if one.name not in named:
                found.append(Suspicion("unknown", one.name, 0.4, f"{one.reason}: {one.detail}", [one.cite], solid=True))
    return found


def murmurs(scene: Scene, graph: Graph, troubles: dict[str, Trouble]) -> list[Suspicion]:
    """Errors of services that are well as far as the cluster can tell."""
    found = []
    for service in dict.fromkeys(line.service for line in scene.lines):
        if service in troubles or not service:
            continue
        for score, line, sign in told(scene, service, crashed=False)[:1]:
            if sign.kind in OF_STARTS or line.level == "warning" or line.count < 3:
                continue
            much = 0.72 if line.count >= 10 else 0.6
            if sign.kind == "permission_denied" and not _OF_SYSTEM.search(sign.words):
                much *= 0.5  # services refuse their users all day
            if line.before is None and (scene.age(line.first) or 0.0) > STALE_S:
                much *= 0.6  # it has gone on for long, and nobody compared it with before
            one = Suspicion(sign.kind, service, score * much, sign.words, [line.cite], line.first)
            if sign.kind in COMPLAINTS:
                name_target(graph, one, line)
            if one.confidence >= ENOUGH:
                found.append(one)
    return found


def scalers(scene: Scene) -> list[Suspicion]:
    found = []
    for service, most, now, cite in scene.scalers.values():
        if most > 0 and now >= most:
            rush = (scene.traffic.ratio or 1.0) >= SURGE or (scene.traffic.slower or 1.0) >= SLOW
            words = f"its autoscaler runs the maximum of {most} pods"
            cites = [cite, *(scene.traffic.cites if rush else [])]
            found.append(Suspicion("hpa_at_maximum", service, 0.9 if rush else 0.55, words, cites, solid=rush))
    for problem in scene.problems:
        if problem.what.startswith("HorizontalPodAutoscaler ") and "maximum" in problem.reason and not found:
            service = scene.resolve(problem.name) or problem.name
            found.append(Suspicion("hpa_at_maximum", service, 0.5, problem.detail, [problem.cite]))
    return found


_ENTRANCES = (
    "loadbalancer",
    "ingress",
    "gateway",
    "haproxy",
    "nginx",
    "envoy",
    "traefik",
    "edge",
    "proxy",
    "frontend",
    "web",
)


def surge(scene: Scene) -> list[Suspicion]:
    traffic = scene.traffic
    if traffic.ratio is None or traffic.ratio < SURGE:
        return []
    names_known = [*scene.known, *scene.stats]
    entrance = next((name for part in _ENTRANCES for name in names_known if part in names.bare(name)), "the system")
    words = f"traffic grew from {traffic.before:.0f} to {traffic.now:.0f} requests/s (×{traffic.ratio:.1f})"
    if traffic.slower and traffic.slower >= SLOW:
        words += f", and answers take {traffic.slower:.1f} times as long"
    return [Suspicion("traffic_surge", entrance, 0.75, words, list(traffic.cites), solid=True)]


def odd_traffic(scene: Scene) -> list[Suspicion]:
    """Figures that are wrong without a reason that can be seen."""
    traffic = scene.traffic
    if traffic.ratio is not None and traffic.ratio <= 0.3 and (traffic.before or 0.0) >= 5.0:
        words = f"traffic fell from {traffic.before:.0f} to {traffic.now:.0f} requests/s"
    elif (traffic.slower or 1.0) >= 2.0 and (traffic.ratio or 1.0) < SURGE:
        words = f"answers take {traffic.slower:.1f} times as long as before"
    else:
        return []
    return [Suspicion("unknown", "the system", 0.36, words, list(traffic.cites))]
