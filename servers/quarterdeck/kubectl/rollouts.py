"""Deployments in motion: where a rollout stands and why it does not go on, and what its revisions were."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Literal

from quarterdeck.keel.answers import UNTRUSTED, fit
from quarterdeck.kubectl import diffs, pods, resources
from quarterdeck.kubectl.cluster import Cluster, Object
from quarterdeck.kubectl.models import History, Revision, Rollout
from quarterdeck.kubectl.words import age, dig, images, outside

REVISION = "deployment.kubernetes.io/revision"
CAUSE = "kubernetes.io/change-cause"
State = Literal["complete", "progressing", "stuck", "paused", "scaled to zero"]


def status(cluster: Cluster, namespace: str, name: str) -> Rollout:
    deployment = resources.read(cluster, resources.DEPLOYMENT, namespace, name)
    state, summary = judge(deployment)
    why = [] if state in ("complete", "scaled to zero") else blocked(cluster, namespace, deployment)
    figures = deployment.get("status") or {}
    return Rollout(
        deployment=name,
        where=pods.where(cluster, namespace),
        state=state,
        summary=summary,
        desired=dig(deployment, "spec", "replicas") or 0,
        updated=figures.get("updatedReplicas", 0),
        ready=figures.get("readyReplicas", 0),
        available=figures.get("availableReplicas", 0),
        why=why,
        note=UNTRUSTED if why else None,
    )


def judge(deployment: Object) -> tuple[State, str]:
    """As `kubectl rollout status` judges, in words."""
    spec, figures = deployment["spec"], deployment.get("status") or {}
    wanted = spec.get("replicas", 1)
    if figures.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "progressing", "The change has not been looked at by the deployment controller yet."
    progressing: Object = next((c for c in figures.get("conditions") or [] if c["type"] == "Progressing"), {})
    updated, total, available = (figures.get(k, 0) for k in ("updatedReplicas", "replicas", "availableReplicas"))
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return "stuck", f"It made no progress within its deadline: {outside(progressing.get('message', ''))}."
    if spec.get("paused"):
        return "paused", "The rollout is paused; nothing moves until it is resumed."
    if wanted == 0 and total == 0:
        return "scaled to zero", "It is scaled to 0: no pods run, as asked."
    if updated < wanted:
        return "progressing", f"{updated} of {wanted} pods are of the new revision."
    if total > updated:
        return "progressing", f"{total - updated} old pods are still to end."
    if available < updated:
        return "progressing", f"{available} of {updated} new pods are available."
    return "complete", f"All {wanted} pods are of the newest revision and available."


def blocked(cluster: Cluster, namespace: str, deployment: Object) -> list[str]:
    """Why its pods are not all well, from conditions and the pods themselves."""
    said = [
        f"{c['type']}: {outside(c.get('message', ''))}"
        for c in dig(deployment, "status", "conditions") or []
        if c["status"] != "True" or c["type"] == "ReplicaFailure"
    ]
    listed = cluster.get(resources.POD.path(namespace), {"labelSelector": selector(deployment), "limit": 100})
    seen: set[str] = set()
    for pod in listed.get("items") or []:
        for reason in pods.why(pod)[:1]:
            line = f"pod {pod['metadata']['name']}: {reason}"
            if reason not in seen and len(seen) < 5:
                seen.add(reason)
                said.append(line)
    return said


def selector(workload: Object) -> str:
    chosen = dig(workload, "spec", "selector") or {}
    parts = [f"{key}={value}" for key, value in (chosen.get("matchLabels") or {}).items()]
    for expression in chosen.get("matchExpressions") or []:
        key, values = expression["key"], ",".join(expression.get("values") or [])
        match expression["operator"]:
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
    return ",".join(parts)


def replica_sets(cluster: Cluster, namespace: str, deployment: Object) -> list[Object]:
    """The deployment's own, newest revision first."""
    listed = cluster.get(resources.REPLICA_SET.path(namespace), {"labelSelector": selector(deployment)})
    uid = deployment["metadata"]["uid"]
    owned = [
        rs
        for rs in listed.get("items") or []
        if any(reference["uid"] == uid for reference in rs["metadata"].get("ownerReferences") or [])
    ]
    return sorted(owned, key=revision, reverse=True)


def revision(object: Object) -> int:
    text = str(dig(object, "metadata", "annotations", REVISION) or "0")
    return int(text) if text.isdigit() else 0


def history(cluster: Cluster, namespace: str, name: str) -> History:
    deployment = resources.read(cluster, resources.DEPLOYMENT, namespace, name)
    sets = replica_sets(cluster, namespace, deployment)
    current = revision(deployment)
    rows = []
    for number, rs in enumerate(sets):
        older = sets[number + 1] if number + 1 < len(sets) else None
        rows.append(
            Revision(
                revision=revision(rs),
                current=revision(rs) == current,
                images=[outside(image, 160) for image in images(rs["spec"]["template"])],
                created=age(rs["metadata"].get("creationTimestamp")),
                change_cause=outside(cause, 200) if (cause := dig(rs, "metadata", "annotations", CAUSE)) else None,
                changed=_difference(older, rs) if older else None,
                ready_pods=dig(rs, "status", "readyReplicas") or 0,
            )
        )
    place = pods.where(cluster, namespace)
    return fit(
        lambda n: History(deployment=name, where=place, revisions=rows[:n], left_out=len(rows) - n or None), len(rows)
    )


def _difference(older: Object, newer: Object) -> str:
    lines = [line for line in diffs.diff(template(older), template(newer)).splitlines() if line[:1] in "+-~"]
    return outside("; ".join(line.strip() for line in lines), 400) or "nothing"


def template(object: Object) -> Object:
    """The pod template, without what the deployment controller adds."""
    found: Object = copy.deepcopy(object["spec"]["template"])
    labels = (found.get("metadata") or {}).get("labels") or {}
    labels.pop("pod-template-hash", None)
    return found


def wait(
    cluster: Cluster, namespace: str, name: str, seconds: float, report: Callable[[float, str], None]
) -> tuple[bool, str]:
    """Watch the rollout until it is complete, stuck, or the time is up; say which, and why."""
    started = time.monotonic()
    while True:
        deployment = resources.read(cluster, resources.DEPLOYMENT, namespace, name)
        state, summary = judge(deployment)
        spent = time.monotonic() - started
        if state in ("complete", "scaled to zero"):
            return True, f"Verified after {spent:.0f} s: {summary}"
        if state in ("stuck", "paused") or spent > seconds:
            why = "; ".join(blocked(cluster, namespace, deployment)[:4])
            when = f"Not complete after {spent:.0f} s" if state == "progressing" else f"The rollout is {state}"
            return False, f"{when}: {summary} {why} Call rollout_status to follow it."
        report(min(0.95, 0.2 + 0.75 * spent / seconds), summary)
        time.sleep(0.5)
