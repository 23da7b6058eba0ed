"""From evidence to the scene: `scene_of(evidence)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from quarterdeck.agents.remediation import cluster_facts, log_facts, names, stats_facts
from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.scene import Scene


def scene_of(evidence: Sequence[Evidence]) -> Scene:
    """Read everything, in an order in which names are known before lines that speak of them."""
    scene = Scene(taken=max((e.taken.astimezone(UTC) for e in evidence), default=datetime.now(UTC)))
    for one in evidence:
        if one.failed:
            scene.failed[_called(one)] = one.failed
            if one.tool.startswith("logs."):
                scene.silent.add(log_facts.service_argument(one))
        else:
            scene.answered.add(one.tool)
    readers: tuple[tuple[str, Callable[[Scene, Evidence], None]], ...] = (
        ("kubectl.list_resources", cluster_facts.resources),
        ("kubectl.find_problems", cluster_facts.owners),
        ("kubectl.list_pods", cluster_facts.pods),
        ("kubectl.describe_pod", cluster_facts.described),
        ("kubectl.rollout_status", cluster_facts.rollout),
        ("kubectl.rollout_history", cluster_facts.history),
        ("kubectl.find_problems", cluster_facts.problems),
        ("kubectl.list_events", cluster_facts.events),
        ("kubectl.top_pods", cluster_facts.usage),
        ("stats.get_system_stats", stats_facts.services),
        ("stats.get_service_status", stats_facts.service),
        ("stats.list_services", stats_facts.services),
        ("stats.get_traffic_metrics", stats_facts.traffic),
        ("stats.get_traffic_history", stats_facts.traffic_history),
        ("stats.query_metrics_range", stats_facts.rates),
        ("logs.tail_errors", log_facts.errors),
        ("logs.summarize_logs", log_facts.digest),
        ("logs.get_service_logs", log_facts.newest),
    )
    for tool, reader in readers:
        # What was asked of one service comes before what was asked of all.
        for one in sorted(evidence, key=lambda e: log_facts.service_argument(e) == "all"):
            if one.tool == tool and not one.failed:
                reader(scene, one)
    scene.lines = log_facts.without_doubles(scene.lines)
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
