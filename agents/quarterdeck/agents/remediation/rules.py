"""Judgement without a model: `judge(evidence)` says what is wrong, whose fault it is, and what to do.

Three sources are weighed: what the cluster says of each service (troubles), what logs say (signs), and who needs whom
(graph). What the cluster says outright is certain; log lines explain a service that is unwell, and mean less where it
is well; a service that only suffers from another is named among those affected. Where nothing explains a trouble the
answer is "unknown" with what was missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quarterdeck.agents.remediation import names, remedies
from quarterdeck.agents.remediation.blame import blame, settle
from quarterdeck.agents.remediation.elsewhere import murmurs, nodes, odd_traffic, scalers, surge
from quarterdeck.agents.remediation.explain import explain, second_faults
from quarterdeck.agents.remediation.graph import Topology, graph_of
from quarterdeck.agents.remediation.models import Cause, Diagnosis, Evidence
from quarterdeck.agents.remediation.reader import scene_of
from quarterdeck.agents.remediation.scene import Scene
from quarterdeck.agents.remediation.summaries import summary_of
from quarterdeck.agents.remediation.suspicion import Suspicion
from quarterdeck.agents.remediation.troubles import troubles_of

MOST_CAUSES = 6


def judge(evidence: Sequence[Evidence], topology: Topology | None = None, about: str | None = None) -> Diagnosis:
    """The diagnosis that the evidence carries; `topology` says who needs whom, for those who know it beforehand. Of
    several independent faults the one that concerns the service `about` comes first."""
    scene = scene_of(evidence)
    graph = graph_of(scene, topology)
    troubles = troubles_of(scene)
    considered: list[str] = []
    suspicions = [explain(scene, graph, trouble) for trouble in troubles.values()]
    suspicions += second_faults(scene, troubles, suspicions)
    suspicions += nodes(scene)
    suspicions += murmurs(scene, graph, troubles)
    suspicions += scalers(scene) + surge(scene) + odd_traffic(scene)
    suspicions = blame(scene, graph, troubles, suspicions, considered)
    suspicions = settle(scene, suspicions, considered)
    if about:
        suspicions.sort(key=lambda one: names.same(about, [one.service, *one.affects]) is None)
    known = {one.id for one in evidence}
    causes = [_cause(one, known) for one in suspicions[:MOST_CAUSES]]
    diagnosis = Diagnosis(
        causes=[cause for cause in causes if cause.cites],
        alternatives=considered[:8],
        missing=_gaps(scene.failed)[:20],
    )
    diagnosis.healthy = _is_healthy(scene, diagnosis)
    if not diagnosis.causes and not diagnosis.healthy:
        diagnosis.causes = _nothing_seen(evidence)
    return remedies.prescribe(scene, diagnosis)


def _gaps(failed: Mapping[str, str]) -> list[str]:
    """What could not be asked and why; ten calls that meet the same closed door of a server are one gap."""
    gaps: dict[tuple[str, str], list[str]] = {}
    for called, why in failed.items():
        gaps.setdefault((called.partition(".")[0], why), []).append(called)
    return [
        f"{calls[0]}{f' and {len(calls) - 1} more' if len(calls) > 1 else ''}: {why}"
        for (_, why), calls in gaps.items()
    ]


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
            summary=said,
            confidence=0.2,
            cites=[one.id for one in (failed or list(evidence))[:8]],
        )
    ]
