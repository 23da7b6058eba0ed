"""Causes and consequences: who is at fault, who only suffers, and what does not hold beside the rest."""

from __future__ import annotations

from quarterdeck.agents.remediation import remedies
from quarterdeck.agents.remediation.graph import Graph
from quarterdeck.agents.remediation.models import Kind
from quarterdeck.agents.remediation.scene import Scene
from quarterdeck.agents.remediation.signs import COMPLAINTS
from quarterdeck.agents.remediation.suspicion import ENOUGH, SYMPTOMS, Suspicion, freshness
from quarterdeck.agents.remediation.troubles import Trouble


def blame(
    scene: Scene, graph: Graph, troubles: dict[str, Trouble], suspicions: list[Suspicion], considered: list[str]
) -> list[Suspicion]:
    """Those who only suffer go to `affects` of those who are at fault."""
    roots = {one.service: one for one in suspicions if one.kind not in COMPLAINTS | SYMPTOMS and one.solid}
    _stopped(scene, graph, troubles, suspicions, roots)
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


def _stopped(
    scene: Scene, graph: Graph, troubles: dict[str, Trouble], suspicions: list[Suspicion], roots: dict[str, Suspicion]
) -> None:
    """A service that was scaled to zero is at fault only if somebody misses it. Its owner may have meant it: a line in
    the log of a service that is well is told, and starts nothing."""
    for name, workload in scene.workloads.items():
        if workload.wanted != 0:
            continue
        missed = [c for c in graph.complaints if c.about == name and freshness(scene, c.line) >= 0.6]
        offline = scene.offline.get(name)
        if not missed and not offline:
            continue
        ran = [event.cite for event in scene.events if event.service == name and remedies.SCALED.search(event.message)]
        harmed = any((harm := troubles.get(c.by)) is not None and not harm.facts for c in missed)
        sure = bool(missed) and (harmed or bool(ran) or bool(offline))
        words = "it is scaled to 0: no pods run"
        if not sure:
            words += ", and nothing shows that anybody suffers from it"
        cites = [
            *workload.cites[-1:],
            *dict.fromkeys(c.line.cite for c in missed),
            *([offline] if offline else []),
            *ran,
        ]
        cites += [scene.empty[name]] if name in scene.empty else []
        confidence = 0.95 if sure else 0.55 if offline else 0.4
        found = Suspicion("scaled_to_zero", name, confidence, words, list(dict.fromkeys(cites)))
        found.solid = sure or bool(offline)
        found.since = min((c.line.first for c in missed if c.line.first), default=None)
        suspicions[:] = [one for one in suspicions if one.service != name]
        suspicions.append(found)
        if found.solid:
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
        direct = [c for c in graph.complaints if c.by == one.service and freshness(scene, c.line) >= 0.6]
        if direct:
            return max(ends, key=lambda other: other.confidence)
        # It says nothing, but what it needs is gone altogether.
        near = [o for o in ends if o.service in graph.needs.get(one.service, ()) and _is_gone(scene, o.service)]
        if near:
            return max(near, key=lambda other: other.confidence)
    return None


def _is_gone(scene: Scene, service: str) -> bool:
    workload = scene.workloads.get(service)
    return workload is not None and (workload.wanted == 0 or all(pod.sick for pod in scene.pods_of(service)))


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


def settle(scene: Scene, suspicions: list[Suspicion], considered: list[str]) -> list[Suspicion]:
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
    """What was stopped and is missed comes first, a surge after what it broke, an autoscaler at its end before it."""
    tier = 0 if one.solid else 1
    if one.kind == "scaled_to_zero" and one.solid and one.confidence > 0.9:
        tier = -1  # the cluster says it outright: what is only read in logs comes after it
    if one.kind == "traffic_surge":
        tier = 2
    return tier, -(one.confidence + 0.02 * min(4, len(one.affects))), len(one.service)
