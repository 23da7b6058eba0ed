"""What is unhealthy now, ranked, each with its reason and where to look next."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from quarterdeck.keel.answers import fit
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import events, pods, resources, rollouts
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Object, path_of
from quarterdeck.kubectl.models import PodRow, Problem, Problems
from quarterdeck.kubectl.words import age, dig, outside, quantity

Severity = Literal["high", "medium", "low"]
LOOKED_AT = 24
"""Unhealthy pods that are read one by one; the rest are counted by their status."""
ORDER = {"high": 0, "medium": 1, "low": 2}
_HASH = re.compile(r"-[a-z0-9]{6,10}$")


def find(cluster: Cluster, namespace: str) -> Problems:
    looks: dict[str, Callable[[], list[Problem]]] = {
        "pods and deployments": lambda: _workloads(cluster, namespace),
        "stateful sets": lambda: _sets(cluster, namespace, resources.STATEFUL_SET),
        "daemon sets": lambda: _sets(cluster, namespace, resources.DAEMON_SET),
        "nodes": lambda: _nodes(cluster),
        "volume claims": lambda: _claims(cluster, namespace),
        "jobs": lambda: _jobs(cluster, namespace),
        "autoscalers": lambda: _autoscalers(cluster, namespace),
        "quotas": lambda: _quotas(cluster, namespace),
    }
    found: list[Problem] = []
    not_checked = []
    with ThreadPoolExecutor(len(looks)) as pool:
        running = {what: pool.submit(look) for what, look in looks.items()}
        for what, future in running.items():
            try:
                found += future.result()
            except ApiRefusal as error:
                if what == "pods and deployments" and error.code != 404:
                    raise
                not_checked.append(f"{what}: {'no permission' if error.code == 403 else f'answered {error.code}'}")
    found += _lone_warnings(cluster, namespace, found)
    if not found:
        resources.check_namespace(cluster, namespace)
    ranked = sorted(found, key=lambda p: ORDER[p.severity])
    counts = [f"{sum(1 for p in ranked if p.severity == s)} {s}" for s in ORDER]
    verdict = f"{len(ranked)} problems ({', '.join(counts)})" if ranked else "nothing unhealthy found"
    place = pods.where(cluster, namespace)
    return fit(
        lambda n: Problems(
            where=place,
            verdict=verdict,
            problems=ranked[:n],
            left_out=len(ranked) - n or None,
            not_checked=not_checked or None,
        ),
        len(ranked),
    )


# Pods and their deployments


def _workloads(cluster: Cluster, namespace: str) -> list[Problem]:
    rows = [row for row in pods.rows(cluster, namespace) if pods.unhealthy(row)]
    rows.sort(key=pods.rank)
    chosen = _representatives(rows)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda row: _pod(cluster, namespace, row.name), chosen))
    groups: dict[str, list[Object]] = {}
    for pod in read:
        if pod is not None:
            groups.setdefault(owner_of(pod), []).append(pod)
    deployments = cluster.get(resources.DEPLOYMENT.path(namespace), {"limit": 500}).get("items") or []
    by_name = {f"Deployment {d['metadata']['name']}": d for d in deployments}
    found = []
    counted = {row.name for row in chosen}
    for owner, members in groups.items():
        deployment = by_name.pop(owner, None)
        alike = sum(
            1 for row in rows if row.name in counted and _stem(row.name) == _stem(members[0]["metadata"]["name"])
        )
        more = sum(1 for row in rows if _stem(row.name) == _stem(members[0]["metadata"]["name"]))
        found.append(_group(cluster, namespace, owner, members, max(alike, more), deployment))
    rest = [
        row for row in rows if row.name not in counted and not any(_stem(row.name) == _stem(c.name) for c in chosen)
    ]
    found += _rest(rest)
    for name, deployment in by_name.items():
        state, summary = rollouts.judge(deployment)
        if state in ("stuck", "progressing") and dig(deployment, "spec", "replicas") != 0:
            why = rollouts.blocked(cluster, namespace, deployment)[:3]
            reason = "rollout is stuck" if state == "stuck" else "rollout in progress"
            severity: Severity = "high" if state == "stuck" or _none_available(deployment) else "low"
            found.append(Problem(severity=severity, what=name, reason=reason, detail=summary, evidence=why or None))
    return found


def _representatives(rows: list[PodRow]) -> list[PodRow]:
    """The worst pods, but of each workload and status only a few: a hundred replicas fail for one reason."""
    seen: dict[tuple[str, str], int] = {}
    chosen: list[PodRow] = []
    for row in rows:
        key = (_stem(row.name), row.status)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= 2 and len(chosen) < LOOKED_AT:
            chosen.append(row)
    return chosen


def _stem(pod: str) -> str:
    """The workload that a pod's name speaks of."""
    without = pod.rpartition("-")[0] or pod
    return _HASH.sub("", without)


def _pod(cluster: Cluster, namespace: str, name: str) -> Object | None:
    try:
        found: Object = cluster.get(resources.POD.path(namespace, name))
        return found
    except ApiRefusal:
        return None  # it went away meanwhile


def owner_of(pod: Object) -> str:
    owner = next(iter(pod["metadata"].get("ownerReferences") or []), None)
    if owner is None:
        return f"Pod {pod['metadata']['name']}"
    if owner["kind"] == "ReplicaSet":
        hashed = (pod["metadata"].get("labels") or {}).get("pod-template-hash")
        if hashed and owner["name"].endswith(f"-{hashed}"):
            return f"Deployment {owner['name'].removesuffix(f'-{hashed}')}"
    return f"{owner['kind']} {owner['name']}"


def _group(
    cluster: Cluster, namespace: str, owner: str, members: list[Object], count: int, deployment: Object | None
) -> Problem:
    worst = max(members, key=lambda pod: ORDER_OF_REASONS.get(reason_of(pod)[0], 0))
    reason, detail = reason_of(worst)
    evidence = [f"pod {worst['metadata']['name']}: {said}" for said in pods.why(worst)[:3]]
    severity: Severity = "high" if ORDER_OF_REASONS.get(reason, 50) >= 60 else "medium"
    whole = f"{count} pod{'s' if count != 1 else ''}"
    if deployment is not None:
        figures = deployment.get("status") or {}
        wanted = deployment["spec"].get("replicas", 1)
        whole = f"{count} of {wanted} wanted pods" if count <= wanted else f"{count} pods ({wanted} wanted)"
        evidence.append(
            f"available {figures.get('availableReplicas', 0)}/{wanted}; rollout {rollouts.judge(deployment)[0]}"
        )
        old_is_well = figures.get("availableReplicas", 0) >= wanted and rollouts.judge(deployment)[0] != "complete"
        if old_is_well:
            severity = "medium"
            evidence.append("the old revision still serves: only the new one fails")
        elif _none_available(deployment):
            severity = "high"
    if reason == "not ready":
        evidence += _unhealthy_events(cluster, namespace, worst)
    if reason in ("starting", "terminating"):
        severity = "low"
    name = worst["metadata"]["name"]
    log = "previous=true" if reason in ("CrashLoopBackOff", "OOMKilled", "Error") else ""
    after = {
        "CrashLoopBackOff": f"get_pod_logs(pod_name={name}, {log}) shows its last words",
        "Error": f"get_pod_logs(pod_name={name}, {log}) shows its last words",
        "OOMKilled": f"top_pods, and the limit in describe_pod(pod_name={name}); raise the limit or mend the leak",
        "ImagePullBackOff": "rollout_history: was the image just changed? rollback_deployment goes back",
        "ErrImagePull": "rollout_history: was the image just changed? rollback_deployment goes back",
        "CreateContainerConfigError": "create the missing Secret or ConfigMap, or roll back",
        "unschedulable": "top_nodes and list_resources(kind=nodes)",
    }.get(reason, f"describe_pod(pod_name={name})")
    return Problem(
        severity=severity, what=owner, reason=reason, detail=f"{whole}: {detail}", evidence=evidence or None, next=after
    )


ORDER_OF_REASONS = {
    "OOMKilled": 95,
    "CrashLoopBackOff": 90,
    "CreateContainerConfigError": 85,
    "ImagePullBackOff": 84,
    "ErrImagePull": 84,
    "Error": 80,
    "Evicted": 75,
    "unschedulable": 70,
    "not ready": 60,
    "Unknown": 60,
    "terminating": 20,
    "starting": 10,
}


def reason_of(pod: Object) -> tuple[str, str]:
    """(short reason, one sentence)."""
    status = pod.get("status") or {}
    if status.get("reason"):
        return str(status["reason"]), outside(status.get("message") or status["reason"])
    entries = pods.statuses(pod)
    for entry in entries.values():
        last = dig(entry, "lastState", "terminated") or dig(entry, "state", "terminated") or {}
        waiting = dig(entry, "state", "waiting") or {}
        if last.get("reason") == "OOMKilled" and not entry.get("ready"):
            return "OOMKilled", f"container {entry['name']} was killed for using more memory than its limit"
        if waiting.get("reason") == "CrashLoopBackOff":
            code = last.get("exitCode")
            return (
                "CrashLoopBackOff",
                f"container {entry['name']} keeps ending (exit code {code}), {entry.get('restartCount', 0)} restarts",
            )
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return str(waiting["reason"]), outside(waiting.get("message") or waiting["reason"])
        ended = dig(entry, "state", "terminated") or {}
        if ended.get("exitCode"):
            return "Error", f"container {entry['name']} ended with exit code {ended['exitCode']}"
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "unschedulable", outside(condition.get("message", ""))
    if pod["metadata"].get("deletionTimestamp"):
        return "terminating", f"is being deleted since {age(pod['metadata']['deletionTimestamp'])}"
    if status.get("phase") == "Running":
        unready = [e["name"] for e in entries.values() if not e.get("ready")]
        return "not ready", f"runs, but {', '.join(unready) or 'it'} is not ready"
    return "starting", f"{status.get('phase', 'Unknown')} for {age(pod['metadata'].get('creationTimestamp'))}"


def _unhealthy_events(cluster: Cluster, namespace: str, pod: Object) -> list[str]:
    try:
        rows = events.about(cluster, namespace, pod["metadata"]["uid"])
    except Refusal:
        return []
    return [f"event {row.reason} ×{row.count}: {row.message}" for row in rows if row.type == "Warning"][:2]


def _rest(rows: list[PodRow]) -> list[Problem]:
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (_stem(row.name), row.status)
        counts[key] = counts.get(key, 0) + 1
    return [
        Problem(severity="medium", what=f"pods {stem}-…", reason=status, detail=f"{count} pods", next="list_pods")
        for (stem, status), count in sorted(counts.items(), key=lambda item: -item[1])
    ]


def _none_available(deployment: Object) -> bool:
    return not dig(deployment, "status", "availableReplicas") and bool(deployment["spec"].get("replicas", 1))


# Everything else


def _sets(cluster: Cluster, namespace: str, kind: resources.Resource) -> list[Problem]:
    found = []
    for owner in cluster.get(kind.path(namespace), {"limit": 500}).get("items") or []:
        figures = owner.get("status") or {}
        if kind is resources.DAEMON_SET:
            wanted, ready = figures.get("desiredNumberScheduled", 0), figures.get("numberReady", 0)
        else:
            wanted, ready = dig(owner, "spec", "replicas") or 0, figures.get("readyReplicas", 0)
        if ready < wanted:
            what = f"{kind.kind} {owner['metadata']['name']}"
            severity: Severity = "high" if ready == 0 else "medium"
            found.append(
                Problem(severity=severity, what=what, reason="not all ready", detail=f"{ready} of {wanted} ready")
            )
    return found


def _nodes(cluster: Cluster) -> list[Problem]:
    found = []
    for node in cluster.get(resources.NODE.path(), {"limit": 1000}).get("items") or []:
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


def _claims(cluster: Cluster, namespace: str) -> list[Problem]:
    listed = cluster.get(path_of("v1", "persistentvolumeclaims", namespace), {"limit": 500}).get("items") or []
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


def _jobs(cluster: Cluster, namespace: str) -> list[Problem]:
    found = []
    for job in cluster.get(resources.JOB.path(namespace), {"limit": 500}).get("items") or []:
        for condition in dig(job, "status", "conditions") or []:
            if condition["type"] == "Failed" and condition["status"] == "True":
                what = f"Job {job['metadata']['name']}"
                said = outside(condition.get("message", ""))
                found.append(Problem(severity="medium", what=what, reason="failed", detail=said))
    return found


def _autoscalers(cluster: Cluster, namespace: str) -> list[Problem]:
    path = None
    for version in ("autoscaling/v2", "autoscaling/v1"):
        try:
            listed = cluster.get(path_of(version, "horizontalpodautoscalers", namespace), {"limit": 500})
            path = version
            break
        except ApiRefusal as error:
            if error.code != 404 or version == "autoscaling/v1":
                raise
    assert path
    found = []
    for scaler in listed.get("items") or []:
        most, now = dig(scaler, "spec", "maxReplicas"), dig(scaler, "status", "currentReplicas")
        if most and now == most:
            what = f"HorizontalPodAutoscaler {scaler['metadata']['name']}"
            detail = f"it runs its maximum of {most}; more load finds no more pods"
            found.append(Problem(severity="medium", what=what, reason="at its maximum", detail=detail))
    return found


def _quotas(cluster: Cluster, namespace: str) -> list[Problem]:
    found = []
    for quota in cluster.get(path_of("v1", "resourcequotas", namespace), {"limit": 100}).get("items") or []:
        hard, used = dig(quota, "status", "hard") or {}, dig(quota, "status", "used") or {}
        full = [key for key in hard if quantity(hard[key]) and quantity(used.get(key, 0)) >= quantity(hard[key])]
        if full:
            what = f"ResourceQuota {quota['metadata']['name']}"
            said = ", ".join(f"{key} {used.get(key)} of {hard[key]}" for key in full)
            found.append(Problem(severity="medium", what=what, reason="used up", detail=f"no more fits: {said}"))
    return found


def _lone_warnings(cluster: Cluster, namespace: str, known: list[Problem]) -> list[Problem]:
    """Warnings about objects that no problem above speaks of, such as a replica set that may not create pods."""
    try:
        listed = events.read(cluster, namespace, "type=Warning")
    except Refusal:
        return []
    said = " ".join(f"{p.what} {' '.join(p.evidence or [])}" for p in known)
    found: dict[tuple[str, str], Problem] = {}
    for event in listed[:300]:
        about: Any = event.get("involvedObject") or {}
        name = str(about.get("name", ""))
        if about.get("kind") == "Pod" or _stem(name) in said or _HASH.sub("", name) in said:
            continue
        row = events.row(event)
        key = (name, row.reason)
        if key not in found and len(found) < 10:
            severity: Severity = "high" if row.reason == "FailedCreate" else "low"
            detail = f"{row.message} (×{row.count}, last {row.last_seen} ago)"
            found[key] = Problem(severity=severity, what=row.about, reason=row.reason, detail=detail)
    return list(found.values())
