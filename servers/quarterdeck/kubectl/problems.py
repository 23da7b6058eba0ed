"""What is unhealthy now, ranked, each with its reason and where to look next."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from quarterdeck.keel.answers import fit
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import events, pods, resources, rollouts, surroundings
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Object
from quarterdeck.kubectl.models import PodRow, Problem, Problems, Severity
from quarterdeck.kubectl.words import age, dig, outside

OFTEN = timedelta(minutes=5)
LOOKED_AT = 24
"""Unhealthy pods that are read one by one; the rest are counted by their status."""
ORDER = {"high": 0, "medium": 1, "low": 2}
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
# As controllers name pods: NAME-HASH-RANDOM, NAME-RANDOM or NAME-NUMBER. They use no vowels, and a hash has digits.
_NAMED = re.compile(rf"(.+?)(?:-(?=[a-z]*\d)[{_SAFE}]{{6,10}})?-[{_SAFE}]{{5}}|(.+)-\d+")

_WORDS = re.compile(r"[\w.-]+")


def find(cluster: Cluster, namespace: str) -> Problems:
    not_checked: list[str] = []
    deployments: list[Object] = []
    try:
        deployments = cluster.items(resources.DEPLOYMENT.path(namespace))[0]
    except Refusal as error:
        not_checked.append(f"deployments: {_short(error)}")
    looks: dict[str, Callable[[], list[Problem]]] = {
        "pods": lambda: _workloads(cluster, namespace, deployments),
        "stateful sets": lambda: surroundings.short_sets(cluster, namespace, resources.STATEFUL_SET),
        "daemon sets": lambda: surroundings.short_sets(cluster, namespace, resources.DAEMON_SET),
        "nodes": lambda: surroundings.sick_nodes(cluster),
        "volume claims": lambda: surroundings.unbound_claims(cluster, namespace),
        "jobs": lambda: surroundings.failed_jobs(cluster, namespace),
        "autoscalers": lambda: surroundings.full_autoscalers(cluster, namespace),
        "quotas": lambda: surroundings.full_quotas(cluster, namespace),
    }
    found: list[Problem] = []
    with ThreadPoolExecutor(len(looks)) as pool:
        running = {what: pool.submit(look) for what, look in looks.items()}
        for what, future in running.items():
            try:
                found += future.result()
            except Refusal as error:
                if what == "pods":
                    raise
                not_checked.append(f"{what}: {_short(error)}")
    found += _lone_warnings(cluster, namespace, found)
    if not found:
        resources.check_namespace(cluster, namespace)
    ranked = sorted(found, key=lambda p: ORDER[p.severity])
    counts = [f"{sum(1 for p in ranked if p.severity == s)} {s}" for s in ORDER]
    verdict = (
        f"{len(ranked)} problem{'s' if len(ranked) > 1 else ''} ({', '.join(counts)})"
        if ranked
        else "nothing unhealthy found"
    )
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


def _short(error: Refusal) -> str:
    if isinstance(error, ApiRefusal):
        return {403: "no permission", 404: "not served"}.get(error.code, f"answered {error.code}")
    return "no answer"


# Pods and their deployments


def _workloads(cluster: Cluster, namespace: str, deployments: list[Object]) -> list[Problem]:
    rows = [row for row in pods.rows(cluster, namespace) if pods.unhealthy(row) or pods.restarted_lately(row)]
    rows.sort(key=pods.rank)
    chosen = _representatives(rows)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda row: _pod(cluster, namespace, row.name), chosen))
    alike: dict[str, Counter[str]] = {}
    for row in rows:
        alike.setdefault(_stem(row.name), Counter())[row.status] += 1
    groups: dict[str, list[Object]] = {}
    for pod in read:
        if pod is not None:
            owner, stem = owner_of(pod), _stem(pod["metadata"]["name"])
            lone = owner.startswith("Pod ") and alike[stem].total() > 1
            groups.setdefault(f"pods {stem}-…" if lone else owner, []).append(pod)
    by_name = {f"Deployment {d['metadata']['name']}": d for d in deployments}
    found = []
    for owner, members in groups.items():
        deployment = by_name.pop(owner, None)
        states = alike[_stem(members[0]["metadata"]["name"])]
        found.append(_group(cluster, namespace, owner, members, states, deployment))
    seen = {_stem(row.name) for row in chosen}
    found += _rest([row for row in rows if _stem(row.name) not in seen])
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
    named = _NAMED.fullmatch(pod)
    return (named[1] or named[2]) if named else pod


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
    cluster: Cluster, namespace: str, owner: str, members: list[Object], states: Counter[str], deployment: Object | None
) -> Problem:
    count = states.total()
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
    if reason == "OOMKilled" and _well_now(worst) and not _again_and_again(worst):
        severity = "medium"
    if len(states) > 1:
        evidence.append("states: " + ", ".join(f"{many} {state}" for state, many in states.most_common(5)))
    if reason == "not ready":
        evidence += _unhealthy_events(cluster, namespace, worst)
    if reason in ("starting", "terminating", "restarted lately"):
        severity = "low"
    name = worst["metadata"]["name"]
    last_words = f"get_pod_logs(pod_name={name}, previous=true) shows its last words"
    after = {
        "CrashLoopBackOff": last_words,
        "Error": last_words,
        "keeps restarting": last_words,
        "restarted lately": last_words,
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
    "keeps restarting": 78,
    "restarted lately": 15,
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
        to_blame = "running" not in (entry.get("state") or {}) or pods.since(last) < pods.LATELY
        if last.get("reason") == "OOMKilled" and to_blame:
            return "OOMKilled", f"container {entry['name']} was killed for using more memory than its limit"
        if waiting.get("reason") == "CrashLoopBackOff":
            code = last.get("exitCode")
            return (
                "CrashLoopBackOff",
                f"container {entry['name']} keeps ending (exit code {code}), {entry.get('restartCount', 0)} restarts",
            )
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            said = outside(waiting.get("message") or waiting["reason"])
            image = _image(pod, entry["name"]) if "Image" in waiting["reason"] else ""
            return str(waiting["reason"]), said if image in said else f"image {image}: {said}"
        ended = dig(entry, "state", "terminated") or {}
        if ended.get("exitCode"):
            return "Error", f"container {entry['name']} ended with exit code {ended['exitCode']}"
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "unschedulable", outside(condition.get("message", ""))
    if pod["metadata"].get("deletionTimestamp"):
        return "terminating", f"is being deleted since {age(pod['metadata']['deletionTimestamp'])}"
    if status.get("phase") == "Running":
        restarts = sum(entry.get("restartCount", 0) for entry in entries.values())
        unready = [e["name"] for e in entries.values() if not e.get("ready")]
        if restarts and not unready:
            said = f"runs now, after {restarts} restart{'s' if restarts > 1 else ''}"
            return ("keeps restarting" if _again_and_again(pod) else "restarted lately"), said
        return "not ready", f"runs, but {', '.join(unready) or 'it'} is not ready"
    return "starting", f"{status.get('phase', 'Unknown')} for {age(pod['metadata'].get('creationTimestamp'))}"


def _image(pod: Object, container: str) -> str:
    return next((outside(spec.get("image", ""), 160) for spec, _ in pods.specs(pod) if spec["name"] == container), "")


def _well_now(pod: Object) -> bool:
    entries = pods.statuses(pod).values()
    return bool(entries) and all(entry.get("ready") for entry in entries)


def _again_and_again(pod: Object) -> bool:
    entries = pods.statuses(pod).values()
    often = sum(entry.get("restartCount", 0) for entry in entries) >= 3
    return often and any(pods.since(pods.last_end(entry)) < OFTEN for entry in entries)


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


def _lone_warnings(cluster: Cluster, namespace: str, known: list[Problem]) -> list[Problem]:
    """Warnings about objects that no problem above speaks of, such as a replica set that may not create pods."""
    try:
        listed = events.read(cluster, namespace, "type=Warning")
    except Refusal:
        return []
    said = set(_WORDS.findall(" ".join(f"{p.what} {' '.join(p.evidence or [])}" for p in known)))
    found: dict[tuple[str, str], Problem] = {}
    for event in listed[:300]:
        about: Any = event.get("involvedObject") or {}
        name = str(about.get("name", ""))
        # A replica set's name is the beginning of its pods' names.
        if about.get("kind") == "Pod" or said & {name, _stem(name), _stem(f"{name}-xxxxx")}:
            continue
        row = events.row(event)
        key = (name, row.reason)
        if key not in found and len(found) < 10:
            severity: Severity = "high" if row.reason == "FailedCreate" else "low"
            detail = f"{row.message} (×{row.count}, last {row.last_seen} ago)"
            found[key] = Problem(severity=severity, what=row.about, reason=row.reason, detail=detail)
    return list(found.values())
