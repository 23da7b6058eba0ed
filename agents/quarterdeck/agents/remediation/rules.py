"""Judgement without a model: `judge(evidence)` says what is wrong, whose fault it is, and what to do.

Three sources are weighed: what the cluster says of each service (troubles), what logs say (signs), and who needs whom
(graph). What the cluster says outright is certain; log lines explain a service that is unwell, and mean less where it
is well; a service that only suffers from another is named among those affected. Where nothing explains a trouble the
answer is "unknown" with what was missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from quarterdeck.agents.remediation import names, remedies
from quarterdeck.agents.remediation.graph import Graph, Topology, graph_of
from quarterdeck.agents.remediation.models import Cause, Diagnosis, Evidence, Kind
from quarterdeck.agents.remediation.scene import BAD_LEVELS, Line, Scene, at_age, scene_of
from quarterdeck.agents.remediation.signs import COMPLAINTS, Sign, signs_in
from quarterdeck.agents.remediation.summaries import summary_of
from quarterdeck.agents.remediation.troubles import Trouble, troubles_of

FRESH_S, STALE_S = 360.0, 1200.0
"""Log lines younger than the first count in full, older than the second hardly."""
ENOUGH = 0.35
"""From this confidence on a suspicion is a cause."""
MOST_CAUSES = 6
OF_STARTS: frozenset[Kind] = frozenset({"crash_loop", "bad_configuration", "port_in_use"})
"""What keeps a service from starting: one that runs well only talks of what its users did wrong."""
_OF_SYSTEM = re.compile(
    r"EACCES|EPERM|Errno 13|os error 13|PermissionError|AccessDeniedException|read-?only", re.IGNORECASE
)
SURGE, SLOW = 1.5, 1.5
SYMPTOMS: frozenset[Kind] = frozenset({"readiness_failing", "liveness_failing", "crash_loop", "unknown"})
LOAD: frozenset[Kind] = frozenset(
    {"database_locked", "too_many_connections", "timeouts", "oom_killed", "hpa_at_maximum"}
)


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


def judge(evidence: Sequence[Evidence], topology: Topology | None = None) -> Diagnosis:
    """The diagnosis that the evidence carries; `topology` says who needs whom, for those who know it beforehand."""
    scene = scene_of(evidence)
    graph = graph_of(scene, topology)
    troubles = troubles_of(scene)
    considered: list[str] = []
    suspicions = [_explain(scene, graph, trouble) for trouble in troubles.values()]
    suspicions += _second_faults(scene, troubles, suspicions)
    suspicions += _nodes(scene)
    suspicions += _murmurs(scene, graph, troubles)
    suspicions += _scalers(scene) + _surge(scene) + _odd_traffic(scene)
    suspicions = _blame(scene, graph, troubles, suspicions, considered)
    suspicions = _settle(scene, suspicions, considered)
    known = {one.id for one in evidence}
    causes = [_cause(one, known) for one in suspicions[:MOST_CAUSES]]
    diagnosis = Diagnosis(
        causes=[cause for cause in causes if cause.cites],
        alternatives=considered[:8],
        missing=[f"{called}: {why}" for called, why in scene.failed.items()][:20],
    )
    diagnosis.healthy = _is_healthy(scene, diagnosis)
    if not diagnosis.causes and not diagnosis.healthy:
        diagnosis.causes = _nothing_seen(evidence)
    return remedies.prescribe(scene, diagnosis)


# What ails one service


def _explain(scene: Scene, graph: Graph, trouble: Trouble) -> Suspicion:
    """The best explanation of one service's trouble, from what the cluster says and what its own log says."""
    service = trouble.service
    since = at_age(scene, trouble.began_s)
    fact = max(trouble.facts, key=lambda f: f.confidence, default=None)
    told = _told(scene, service, trouble.crashing, None if trouble.crashing else trouble.began_s)
    if fact is not None and fact.kind != "unknown":
        found = Suspicion(fact.kind, service, fact.confidence, fact.words, [], since, solid=True)
        for one in trouble.facts:
            if one.kind == fact.kind:
                found.cite(one.cite)
    elif told:
        score, line, sign = told[0]
        found = Suspicion(sign.kind, service, score, sign.words, [line.cite], line.first or since, solid=True)
        if sign.kind in COMPLAINTS:
            _name_target(graph, found, line)
    else:
        found = _untold(scene, trouble)
    if trouble.only_new and _by_rollout(found.kind):
        found.words = f"{found.words} ({found.kind.replace('_', ' ')})" if found.kind not in SYMPTOMS else found.words
        found.kind, found.confidence = "bad_rollout", max(0.85, found.confidence)
        found.outside, found.about = False, ""
    elif found.kind in ("crash_loop", "unknown", "readiness_failing", "bad_configuration") and _newly_rolled(
        scene, service
    ):
        if trouble.crashing or trouble.unready:
            found.kind, found.confidence = "bad_rollout", max(0.65, min(found.confidence, 0.75))
    found.solid = True
    found.cite(*trouble.cites)
    if found.kind in ("bad_rollout", "image_pull", "missing_config") and service in scene.workloads:
        found.cite(*scene.workloads[service].cites)
    return found


def _by_rollout(kind: Kind) -> bool:
    """Whether a new revision that fails in this way is a bad rollout, and not something that has its own name."""
    return kind not in (
        "image_pull", "missing_config", "unschedulable", "quota_exceeded", "node_not_ready", "dependency_down",
        "dns_failure", "disk_full",
    )  # fmt: skip


def _newly_rolled(scene: Scene, service: str) -> bool:
    """Whether all pods are of a revision that came a short time ago and changed something."""
    workload = scene.workloads.get(service)
    if workload is None or len(workload.revisions) < 2:
        return False
    newest = workload.revisions[0]
    if not newest.current or newest.age_s is None or newest.age_s > 1800 or not remedies.changes_something(newest):
        return False
    errors = [line.first for line in scene.lines_of(service) if line.level in BAD_LEVELS and line.first]
    first = min((age for at in errors if (age := scene.age(at)) is not None), default=None)
    return first is None or first <= newest.age_s + 30


def _untold(scene: Scene, trouble: Trouble) -> Suspicion:
    """The service is unwell and its log says nothing that we know."""
    service = trouble.service
    since = at_age(scene, trouble.began_s)
    blind = service in scene.silent or "all" in scene.silent or service not in scene.read
    if trouble.hanging:
        return Suspicion("liveness_failing", service, 0.7, trouble.hanging, [], since)
    if trouble.crashing:
        meaning: dict[int, tuple[Kind, str]] = {
            139: ("crash_loop", "it ends with a segmentation fault"),
            134: ("crash_loop", "it aborts itself"),
            132: ("crash_loop", "it ends with an illegal instruction: was it built for another processor?"),
            127: ("bad_configuration", "its command is not found"),
            126: ("bad_configuration", "its command cannot be run"),
        }
        if trouble.exit_code in meaning:
            kind, words = meaning[trouble.exit_code]
            return Suspicion(kind, service, 0.6, words, [], since)
        why = "its log could not be read" if blind else "its log does not say why"
        return Suspicion("unknown", service, 0.4, f"{trouble.words or 'it keeps ending'}, and {why}", [], since)
    if trouble.unready:
        probe = trouble.probing
        if blind:
            words = f"{probe or 'it is not ready'}, and its log could not be read"
            return Suspicion("unknown", service, 0.4, words, [], since)
        if probe:
            return Suspicion("readiness_failing", service, 0.6, probe, [], since)
        return Suspicion("unknown", service, 0.4, trouble.words or "it is not ready, and nothing says why", [], since)
    if trouble.stuck:
        return Suspicion("unknown", service, 0.4, "its rollout is stuck, and nothing says why", [], since)
    return Suspicion("unknown", service, 0.4, "it is offline, and nothing says why", [], since)


def _told(scene: Scene, service: str, crashed: bool, began_s: float | None = None) -> list[tuple[float, Line, Sign]]:
    """What the log of a service says, weighed: fresh, new and bad lines count most, last words of a crash more."""
    found: dict[tuple[Kind, str], tuple[float, Line, Sign]] = {}
    for line in scene.lines_of(service):
        if line.level in ("info", "debug"):
            continue
        for sign in signs_in(line.text):
            score = sign.weight * _freshness(scene, line) * (1.0 if line.level != "warning" else 0.7)
            age = scene.age(line.first)
            if began_s is not None and age is not None and age > 2 * began_s + 20:
                score *= 0.6  # it said so long before the trouble began
            if crashed and line.last_words:
                score = min(0.97, score * 1.05)
            key = (sign.kind, "")
            if key not in found or score > found[key][0]:
                found[key] = (score, line, sign)
    return sorted((one for one in found.values() if one[0] >= ENOUGH), key=lambda one: -one[0])


def _freshness(scene: Scene, line: Line) -> float:
    """Old lines, and those that came as often before, explain little of what is wrong now."""
    age = scene.age(line.last)
    score = 1.0 if age is None or age <= FRESH_S else 0.6 if age <= STALE_S else 0.25
    if line.before is not None and line.before > 0:
        share = line.before / max(1, line.recent or line.count)
        score *= 0.3 if share >= 0.5 else 0.7 if share >= 0.2 else 1.0
    return score


def _name_target(graph: Graph, found: Suspicion, line: Line) -> None:
    for complaint in graph.complaints:
        if complaint.line is line and complaint.kind == found.kind:
            found.about, found.outside = complaint.about, complaint.outside
            return


def _second_faults(scene: Scene, troubles: dict[str, Trouble], first: list[Suspicion]) -> list[Suspicion]:
    """A sick service may name two things: something of its own besides what the cluster says outright."""
    extra = []
    chosen = {one.service: one for one in first}
    for service, trouble in troubles.items():
        if chosen[service].kind not in COMPLAINTS | SYMPTOMS:
            continue
        for score, line, sign in _told(scene, service, trouble.crashing):
            if sign.kind in COMPLAINTS | SYMPTOMS or sign.kind == chosen[service].kind or score < 0.6:
                continue
            extra.append(
                Suspicion(sign.kind, service, score, sign.words, [line.cite, *trouble.cites], line.first, solid=True)
            )
            break
    return extra


# What ails no single service


def _nodes(scene: Scene) -> list[Suspicion]:
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


def _murmurs(scene: Scene, graph: Graph, troubles: dict[str, Trouble]) -> list[Suspicion]:
    """Errors of services that are well as far as the cluster can tell."""
    found = []
    for service in dict.fromkeys(line.service for line in scene.lines):
        if service in troubles or not service:
            continue
        for score, line, sign in _told(scene, service, crashed=False)[:1]:
            if sign.kind in OF_STARTS or line.level == "warning" or line.count < 3:
                continue
            much = 0.72 if line.count >= 10 else 0.6
            if sign.kind == "permission_denied" and not _OF_SYSTEM.search(sign.words):
                much *= 0.5  # services refuse their users all day
            if line.before is None and (scene.age(line.first) or 0.0) > STALE_S:
                much *= 0.6  # it has gone on for long, and nobody compared it with before
            one = Suspicion(sign.kind, service, score * much, sign.words, [line.cite], line.first)
            if sign.kind in COMPLAINTS:
                _name_target(graph, one, line)
            if one.confidence >= ENOUGH:
                found.append(one)
    return found


def _scalers(scene: Scene) -> list[Suspicion]:
    found = []
    for service, most, now, cite in scene.scalers.values():
        if most > 0 and now >= most:
            surge = (scene.traffic.ratio or 1.0) >= SURGE or (scene.traffic.slower or 1.0) >= SLOW
            words = f"its autoscaler runs the maximum of {most} pods"
            cites = [cite, *(scene.traffic.cites if surge else [])]
            found.append(Suspicion("hpa_at_maximum", service, 0.9 if surge else 0.55, words, cites, solid=surge))
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


def _surge(scene: Scene) -> list[Suspicion]:
    traffic = scene.traffic
    if traffic.ratio is None or traffic.ratio < SURGE:
        return []
    names_known = [*scene.known, *scene.stats]
    entrance = next((name for part in _ENTRANCES for name in names_known if part in names.bare(name)), "the system")
    words = f"traffic grew from {traffic.before:.0f} to {traffic.now:.0f} requests/s (×{traffic.ratio:.1f})"
    if traffic.slower and traffic.slower >= SLOW:
        words += f", and answers take {traffic.slower:.1f} times as long"
    return [Suspicion("traffic_surge", entrance, 0.75, words, list(traffic.cites), solid=True)]


def _odd_traffic(scene: Scene) -> list[Suspicion]:
    """Figures that are wrong without a reason that can be seen."""
    traffic = scene.traffic
    if traffic.ratio is not None and traffic.ratio <= 0.3 and (traffic.before or 0.0) >= 5.0:
        words = f"traffic fell from {traffic.before:.0f} to {traffic.now:.0f} requests/s"
    elif (traffic.slower or 1.0) >= 2.0 and (traffic.ratio or 1.0) < SURGE:
        words = f"answers take {traffic.slower:.1f} times as long as before"
    else:
        return []
    return [Suspicion("unknown", "the system", 0.36, words, list(traffic.cites))]


# Causes and consequences


def _blame(
    scene: Scene, graph: Graph, troubles: dict[str, Trouble], suspicions: list[Suspicion], considered: list[str]
) -> list[Suspicion]:
    """Those who only suffer go to `affects` of those who are at fault."""
    roots = {one.service: one for one in suspicions if one.kind not in COMPLAINTS | SYMPTOMS and one.solid}
    _stopped(scene, graph, suspicions, roots)
    shown = {one.service: one for one in suspicions if one.solid and one.service in troubles}
    kept: list[Suspicion] = []
    later: list[Suspicion] = []
    for one in suspicions:
        (later if one.kind in COMPLAINTS | SYMPTOMS or not one.solid else kept).append(one)
    _behind_nodes(scene, kept, later)
    # Complaints come before symptoms: they make the roots that symptoms are then laid to.
    for one in sorted(later, key=lambda s: (s.kind not in COMPLAINTS, len(_chain(s, shown)), -s.confidence)):
        culprit = _culprit(scene, graph, one, kept, shown)
        if culprit is None:
            kept.append(_turned(scene, one))
            continue
        culprit.affects.setdefault(one.service)
        culprit.affects |= {name: None for name in one.affects if name != culprit.service}
        culprit.cite(*one.cites[:2])
    kept = _one_resolver(_merged(kept))
    for one in kept:
        if one.kind in ("dependency_down", "scaled_to_zero", "oom_killed", "crash_loop"):
            for complaint in graph.complaints:
                if complaint.about == one.service and complaint.by != one.service:
                    one.affects.setdefault(complaint.by)
    return kept


def _stopped(scene: Scene, graph: Graph, suspicions: list[Suspicion], roots: dict[str, Suspicion]) -> None:
    """A service that was scaled to zero is at fault only if somebody misses it."""
    for name, workload in scene.workloads.items():
        if workload.wanted != 0:
            continue
        missed = [c for c in graph.complaints if c.about == name and _freshness(scene, c.line) >= 0.6]
        offline = scene.offline.get(name)
        if not missed and not offline:
            continue
        words = "it is scaled to 0: no pods run"
        cites = [*workload.cites[-1:], *dict.fromkeys(c.line.cite for c in missed), *([offline] if offline else [])]
        cites += [scene.empty[name]] if name in scene.empty else []
        found = Suspicion("scaled_to_zero", name, 0.95, words, list(dict.fromkeys(cites)), solid=True)
        found.since = min((c.line.first for c in missed if c.line.first), default=None)
        suspicions[:] = [one for one in suspicions if one.service != name]
        suspicions.append(found)
        roots[name] = found


def _behind_nodes(scene: Scene, kept: list[Suspicion], later: list[Suspicion]) -> None:
    """Pods that are unwell because their node is."""
    lost = {one.service: one for one in kept if one.kind == "node_not_ready"}
    full = {one.service: one for one in kept if one.kind == "disk_full" and one.service in _node_names(scene)}
    for one in list(later):
        nodes = {pod.node for pod in scene.pods_of(one.service, sick=True) if pod.node}
        node = next((n for n in nodes if n in lost), next(iter(lost)) if lost and not nodes else None)
        if node and one.kind in SYMPTOMS:
            lost[node].affects.setdefault(one.service)
            lost[node].cite(*one.cites[:1])
            later.remove(one)
    for one in list(kept):
        if lost and one.kind == "unschedulable" and "not-ready" in one.words + "unreachable":
            if (
                "untolerated taint" in one.words
                and "node.kubernetes.io" in one.words
                and "Insufficient" not in one.words
            ):
                next(iter(lost.values())).affects.setdefault(one.service)
                kept.remove(one)
    for node, held in full.items():
        # The service that filled the disk says so itself: then the node's pressure follows from it.
        sufferers = [one for one in kept if one.kind == "disk_full" and one.service != node]
        if sufferers:
            sufferers[0].cite(*held.cites)
            sufferers[0].affects.setdefault(node)
            kept.remove(held)


def _node_names(scene: Scene) -> set[str]:
    return {*scene.nodes, *(p.name for p in scene.problems if p.what.startswith("Node "))}


def _culprit(
    scene: Scene, graph: Graph, one: Suspicion, kept: list[Suspicion], shown: dict[str, Suspicion]
) -> Suspicion | None:
    """Who is to blame for this complaint or symptom, if another service is."""
    if one.kind == "dns_failure":
        return None  # a name resolves whether or not anybody listens behind it
    by_service = {other.service: other for other in reversed(kept)}
    if one.kind in COMPLAINTS and one.about:
        chain = _chain(one, shown)
        end = chain[-1]
        if end == one.service:
            return None
        for name in reversed(chain):
            if name in by_service and name != one.service:
                return by_service[name]
        # One whose own trouble has no name yet: it is a symptom, but nearer to the cause.
        return shown.get(end) if shown.get(end) is not one else None
    ends = [
        other
        for other in kept
        if other.service != one.service
        and graph.reaches(one.service, other.service)
        and other.kind not in ("traffic_surge", "hpa_at_maximum")
        and (other.solid or other.confidence > one.confidence)
    ]
    if one.kind in SYMPTOMS and one.kind != "crash_loop" and ends:
        direct = [c for c in graph.complaints if c.by == one.service and _freshness(scene, c.line) >= 0.6]
        if direct:
            return max(ends, key=lambda other: other.confidence)
    return None


def _chain(one: Suspicion, shown: dict[str, Suspicion]) -> list[str]:
    """Whom a complaint is about, whom that one complains about, and so on to the end."""
    chain = [one.about] if one.about else []
    while chain and (further := shown.get(chain[-1])) is not None and further.kind in COMPLAINTS and further.about:
        if further.about in chain or further.about == one.service or further.kind == "dns_failure":
            break
        chain.append(further.about)
    return chain


def _turned(scene: Scene, one: Suspicion) -> Suspicion:
    """A complaint that nobody else answers for: the one it is about is down as far as we can see."""
    if one.kind != "dependency_down" or not one.about:
        return one
    sick = any(pod.sick for pod in scene.pods_of(one.about))
    gone = one.about in scene.empty or sick or one.outside
    confidence = one.confidence if gone else min(0.5, one.confidence * 0.6)
    found = Suspicion("dependency_down", one.about, confidence, one.words, list(one.cites), one.since, solid=one.solid)
    found.outside = one.outside
    if one.about in scene.empty:
        found.cite(scene.empty[one.about])
    found.affects.setdefault(one.service)
    return found


def _merged(suspicions: list[Suspicion]) -> list[Suspicion]:
    """The same fault seen from two sides is one."""
    found: dict[tuple[Kind, str], Suspicion] = {}
    for one in suspicions:
        old = found.get((one.kind, one.service))
        if old is None:
            found[(one.kind, one.service)] = one
            continue
        old.confidence = max(old.confidence, one.confidence)
        old.solid |= one.solid
        old.cite(*one.cites)
        old.affects |= one.affects
        old.since = min((t for t in (old.since, one.since) if t), default=None)
    return list(found.values())


def _one_resolver(suspicions: list[Suspicion]) -> list[Suspicion]:
    """When names fail for many, it is what resolves them that fails."""
    unresolved = [one for one in suspicions if one.kind == "dns_failure"]
    if len(unresolved) < 3:
        return suspicions
    found = Suspicion("dns_failure", "cluster DNS", 0.9, f"{len(unresolved)} services cannot resolve names", solid=True)
    found.since = min((one.since for one in unresolved if one.since), default=None)
    for one in unresolved:
        found.cite(*one.cites[:2])
        found.affects.setdefault(one.service)
    return [found, *(one for one in suspicions if one not in unresolved)]


def _settle(scene: Scene, suspicions: list[Suspicion], considered: list[str]) -> list[Suspicion]:
    """Order them, and let go what does not hold beside the others."""
    solid = [one for one in suspicions if one.solid and one.kind not in ("traffic_surge", "hpa_at_maximum")]
    kept = []
    for one in suspicions:
        if not one.solid and one.kind in COMPLAINTS and solid:
            considered.append(f"{one.service}: {one.kind.replace('_', ' ')}, but another service explains it better")
        elif not one.solid and solid and one.confidence < 0.55:
            considered.append(f"{one.service}: {one.kind.replace('_', ' ')} in its log, but it is well")
        elif one.service == "the system" and suspicions[0] is not one:
            considered.append(f"{one.words}, which follows from the rest")
        elif one.kind == "hpa_at_maximum" and not one.solid and solid:
            considered.append(f"{one.service}: {one.words}, without more traffic than usual")
        elif one.confidence < ENOUGH:
            considered.append(f"{one.service}: {one.kind.replace('_', ' ')}, too little speaks for it")
        else:
            kept.append(one)
    for problem in scene.problems:
        if problem.reason == "restarted lately":
            considered.append(f"{problem.name}: {problem.detail}; it is well now")
        elif problem.what.startswith("ResourceQuota ") and not any(one.kind == "quota_exceeded" for one in kept):
            considered.append(f"{problem.what} is used up, but nothing waits for it")
    kept.sort(key=_rank)
    if any(one.kind == "unknown" for one in kept) and any(one.kind != "unknown" for one in kept):
        kept.sort(key=lambda one: one.kind == "unknown")
    return kept


def _rank(one: Suspicion) -> tuple[float, ...]:
    """A surge comes after what it broke, and an autoscaler at its end before the surge; then by weight."""
    tier = 0 if one.solid else 1
    if one.kind == "traffic_surge":
        tier = 2
    return tier, -(one.confidence + 0.02 * min(4, len(one.affects))), len(one.service)


# The answer


def _cause(one: Suspicion, known: set[str]) -> Cause:
    affects = [service for service in one.affects if service != one.service]
    return Cause(
        kind=one.kind,
        service=one.service,
        summary=summary_of(one.kind, one.service, one.words, one.about, affects),
        confidence=round(min(0.99, max(0.0, one.confidence)), 2),
        cites=[cite for cite in one.cites if cite in known][:8],
        since=one.since,
        affects=affects,
    )


def _is_healthy(scene: Scene, diagnosis: Diagnosis) -> bool:
    """Only if those who would know were asked and answered."""
    asked = scene.answered
    return not diagnosis.causes and "kubectl.find_problems" in asked and bool(asked & {"stats.get_system_stats"})


def _nothing_seen(evidence: Sequence[Evidence]) -> list[Cause]:
    if not evidence:
        return []
    failed = [one for one in evidence if one.failed]
    said = (
        "the tools that would show what is wrong gave no answer"
        if failed
        else "nothing that was collected shows a cause"
    )
    return [
        Cause(
            kind="unknown",
            service="the system",
            summary=f"Unknown: {said}.",
            confidence=0.2,
            cites=[one.id for one in (failed or list(evidence))[:8]],
        )
    ]
