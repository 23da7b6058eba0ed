"""What ails a namespace beside its pods and deployments: nodes, sets, volume claims, jobs, autoscalers, quotas."""

from __future__ import annotations

from quarterdeck.kubectl import resources
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Object, path_of
from quarterdeck.kubectl.models import Problem, Severity
from quarterdeck.kubectl.words import age, dig, outside, quantity


def _all(cluster: Cluster, path: str) -> list[Object]:
    return cluster.items(path)[0]


def figures(owner: Object) -> tuple[int, int]:
    """How many pods a stateful set, daemon set or replica set wants, and how many are ready."""
    status = owner.get("status") or {}
    if "desiredNumberScheduled" in status:
        return status["desiredNumberScheduled"], status.get("numberReady", 0)
    return owner["spec"].get("replicas", 1), status.get("readyReplicas", 0)


def short_sets(cluster: Cluster, namespace: str, kind: resources.Resource) -> list[Problem]:
    found = []
    for owner in _all(cluster, kind.path(namespace)):
        wanted, ready = (0, 0) if kind is resources.DAEMON_SET and not owner.get("status") else figures(owner)
        if ready < wanted:
            what = f"{kind.kind} {owner['metadata']['name']}"
            severity: Severity = "high" if ready == 0 else "medium"
            said = f"{ready} of {wanted} ready"
            found.append(Problem(severity=severity, what=what, reason="not all ready", detail=said))
    return found


def sick_nodes(cluster: Cluster) -> list[Problem]:
    found = []
    for node in _all(cluster, resources.NODE.path()):
        name = f"Node {node['metadata']['name']}"
        for condition in dig(node, "status", "conditions") or []:
            bad = condition["status"] != "True" if condition["type"] == "Ready" else condition["status"] == "True"
            if bad:
                reason = "NotReady" if condition["type"] == "Ready" else condition["type"]
                said = f"{outside(condition.get('message', ''))} (since {age(condition.get('lastTransitionTime'))})"
                severity: Severity = "high" if condition["type"] == "Ready" else "medium"
                found.append(Problem(severity=severity, what=name, reason=reason, detail=said, next="list_events"))
        if dig(node, "spec", "unschedulable"):
            detail = "it takes no new pods; cordon_node(uncordon=true) ends that"
            found.append(Problem(severity="low", what=name, reason="cordoned", detail=detail))
    return found


def unbound_claims(cluster: Cluster, namespace: str) -> list[Problem]:
    listed = _all(cluster, path_of("v1", "persistentvolumeclaims", namespace))
    return [
        Problem(
            severity="medium",
            what=f"PersistentVolumeClaim {claim['metadata']['name']}",
            reason=f"{dig(claim, 'status', 'phase')}",
            detail=f"no volume is bound to it for {age(claim['metadata'].get('creationTimestamp'))}",
            next=f"list_events(name={claim['metadata']['name']})",
        )
        for claim in listed
        if dig(claim, "status", "phase") not in ("Bound", None)
    ]


def failed_jobs(cluster: Cluster, namespace: str) -> list[Problem]:
    found = []
    for job in _all(cluster, resources.JOB.path(namespace)):
        for condition in dig(job, "status", "conditions") or []:
            if condition["type"] == "Failed" and condition["status"] == "True":
                what = f"Job {job['metadata']['name']}"
                said = outside(condition.get("message", ""))
                found.append(Problem(severity="medium", what=what, reason="failed", detail=said))
    return found


def autoscalers(cluster: Cluster, namespace: str) -> list[Object]:
    try:
        return _all(cluster, path_of("autoscaling/v2", "horizontalpodautoscalers", namespace))
    except ApiRefusal as error:
        if error.code != 404:
            raise
        return _all(cluster, path_of("autoscaling/v1", "horizontalpodautoscalers", namespace))  # before 1.23


def full_autoscalers(cluster: Cluster, namespace: str) -> list[Problem]:
    found = []
    for scaler in autoscalers(cluster, namespace):
        most, now = dig(scaler, "spec", "maxReplicas"), dig(scaler, "status", "currentReplicas")
        if most and now == most:
            what = f"HorizontalPodAutoscaler {scaler['metadata']['name']}"
            detail = f"it runs its maximum of {most}; more load finds no more pods"
            found.append(Problem(severity="medium", what=what, reason="at its maximum", detail=detail))
    return found


def full_quotas(cluster: Cluster, namespace: str) -> list[Problem]:
    found = []
    for quota in _all(cluster, path_of("v1", "resourcequotas", namespace)):
        hard, used = dig(quota, "status", "hard") or {}, dig(quota, "status", "used") or {}
        full = [key for key in hard if quantity(hard[key]) and quantity(used.get(key, 0)) >= quantity(hard[key])]
        if full:
            what = f"ResourceQuota {quota['metadata']['name']}"
            said = ", ".join(f"{key} {used.get(key)} of {hard[key]}" for key in full)
            found.append(Problem(severity="medium", what=what, reason="used up", detail=f"no more fits: {said}"))
    return found
