"""What ails one service: from what the cluster says of it and what its own log says."""

from __future__ import annotations

from quarterdeck.agents.remediation import remedies
from quarterdeck.agents.remediation.graph import Graph
from quarterdeck.agents.remediation.models import Kind
from quarterdeck.agents.remediation.scene import BAD_LEVELS, Line, Scene, at_age
from quarterdeck.agents.remediation.signs import COMPLAINTS, Sign
from quarterdeck.agents.remediation.suspicion import SYMPTOMS, Suspicion, name_target, stopped, told
from quarterdeck.agents.remediation.troubles import Trouble

SOON_S = 300.0
"""What begins within this time after a new revision is laid to it."""


def explain(scene: Scene, graph: Graph, trouble: Trouble) -> Suspicion:
    """The best explanation of one service's trouble, from what the cluster says and what its own log says."""
    service = trouble.service
    since = at_age(scene, trouble.began_s)
    fact = max(trouble.facts, key=lambda f: f.confidence, default=None)
    heard = told(scene, service, trouble.crashing, None if trouble.crashing else trouble.began_s)
    unfounded = [one for one in heard if _about_the_well(scene, graph, one[1], one[2])]
    # Services start in any order, and complain until the others are there.
    heard = [one for one in heard if one not in unfounded or (trouble.crashing or not stopped(one[1], 0.5))]
    heard.sort(
        key=lambda one: (
            not _about_the_gone(scene, graph, one[1], one[2]),
            -one[0] * (0.6 if one in unfounded else 1.0),
        )
    )
    if fact is not None and fact.kind != "unknown":
        found = Suspicion(fact.kind, service, fact.confidence, fact.words, [], since, solid=True)
        for one in trouble.facts:
            if one.kind == fact.kind:
                found.cite(one.cite)
    elif heard:
        score, line, sign = heard[0]
        found = Suspicion(sign.kind, service, score, sign.words, [line.cite], line.first or since, solid=True)
        if sign.kind in COMPLAINTS:
            name_target(graph, found, line)
        if sign.kind in BY_RESTART and not _corroborated(trouble, line):
            found.confidence = min(found.confidence, 0.55)
    else:
        found = _untold(scene, trouble)
    if trouble.warming:
        if found.kind in SYMPTOMS:
            found.kind, found.words = "readiness_failing", f"its new revision is still rolling out: {found.words}"
        found.confidence = min(found.confidence, 0.45)
    elif trouble.only_new and _by_rollout(found.kind):
        found.words = f"{found.words} ({found.kind.replace('_', ' ')})" if found.kind not in SYMPTOMS else found.words
        found.kind, found.confidence = "bad_rollout", max(0.85, found.confidence)
        found.outside, found.about = False, ""
    elif found.kind in SYMPTOMS | {"bad_configuration"} and (trouble.crashing or trouble.unready):
        if _newly_rolled(scene, trouble):
            found.kind, found.confidence = "bad_rollout", max(0.65, min(found.confidence, 0.75))
    found.solid = True
    found.cite(*trouble.cites)
    if found.kind in ("bad_rollout", "image_pull", "missing_config") and service in scene.workloads:
        found.cite(*scene.workloads[service].cites)
    return found


BY_RESTART: frozenset[Kind] = frozenset({"database_locked", "deadlock"})
"""What a restart mends: as it also costs something, one line of a log is not enough to believe it."""


def _corroborated(trouble: Trouble, line: Line) -> bool:
    """Whether more than one line speaks for it: it hangs, died with these words, said it often, or with a trace."""
    hangs = bool(trouble.hanging) or remedies.HANGS.search(trouble.probing) is not None
    return hangs or line.last_words or line.count >= SEVERAL or "\n" in line.text.strip()


SEVERAL = 5


def _about_the_gone(scene: Scene, graph: Graph, line: Line, sign: Sign) -> bool:
    """Whether it complains about a service that was stopped: the cluster says so too, and no other line is as sure."""
    return sign.kind == "dependency_down" and any(
        c.line is line
        and c.kind == sign.kind
        and (workload := scene.workloads.get(c.about)) is not None
        and (workload.wanted == 0 or (bool(workload.wanted) and workload.ready == 0))
        for c in graph.complaints
    )


def _about_the_well(scene: Scene, graph: Graph, line: Line, sign: Sign) -> bool:
    """Whether it complains about a service that looks well: then what else it says tells more."""
    found = [c for c in graph.complaints if c.line is line and c.kind == sign.kind]
    return bool(found) and not any(
        c.outside or c.about in scene.empty or c.about in scene.offline or scene.pods_of(c.about, sick=True)
        or not scene.pods_of(c.about)
        for c in found
    )  # fmt: skip


def _by_rollout(kind: Kind) -> bool:
    """Whether a new revision that fails in this way is a bad rollout, and not something that has its own name."""
    return kind not in (
        "image_pull", "missing_config", "unschedulable", "quota_exceeded", "node_not_ready", "dependency_down",
        "dns_failure", "disk_full",
    )  # fmt: skip


def _newly_rolled(scene: Scene, trouble: Trouble) -> bool:
    """Whether the trouble began soon after a revision that changed something."""
    workload = scene.workloads.get(trouble.service)
    if workload is None or len(workload.revisions) < 2:
        return False
    newest = workload.revisions[0]
    if not newest.current or newest.age_s is None or newest.age_s > 1800 or not remedies.changes_something(newest):
        return False
    errors = [line.first for line in scene.lines_of(trouble.service) if line.level in BAD_LEVELS and line.first]
    began = max((age for at in errors if (age := scene.age(at)) is not None), default=trouble.began_s)
    return began is not None and -30 <= newest.age_s - began <= SOON_S


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


def second_faults(scene: Scene, troubles: dict[str, Trouble], first: list[Suspicion]) -> list[Suspicion]:
    """A sick service may name two things: something of its own besides what the cluster says outright."""
    extra = []
    chosen = {one.service: one for one in first}
    for service, trouble in troubles.items():
        if chosen[service].kind not in COMPLAINTS | SYMPTOMS:
            continue
        for score, line, sign in told(scene, service, trouble.crashing):
            if sign.kind in COMPLAINTS | SYMPTOMS or sign.kind == chosen[service].kind or score < 0.6:
                continue
            if sign.kind in BY_RESTART and not _corroborated(trouble, line):
                score = min(score, 0.55)
            extra.append(
                Suspicion(sign.kind, service, score, sign.words, [line.cite, *trouble.cites], line.first, solid=True)
            )
            break
    return extra
