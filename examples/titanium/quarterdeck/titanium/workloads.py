"""The controllers that make and remove pods: replica sets, stateful sets, daemon sets and jobs."""

from __future__ import annotations

import copy
from typing import Any

from quarterdeck.titanium import quantities
from quarterdeck.titanium.defaults import quality, random_suffix
from quarterdeck.titanium.events import Recorder
from quarterdeck.titanium.kinds import Kind, Kinds
from quarterdeck.titanium.rollouts import template_hash
from quarterdeck.titanium.status import ApiError
from quarterdeck.titanium.store import Store, timestamp

Object = dict[str, Any]
BURST = 200
"""Pods that one pass makes for one owner."""


def is_active(pod: Object) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and pod.get("status", {}).get("phase") not in (
        "Succeeded",
        "Failed",
    )


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Workloads:
    def __init__(self, store: Store, kinds: Kinds, record: Recorder) -> None:
        self._store, self._kinds, self._record = store, kinds, record
        pod, quota, node = kinds.named("Pod"), kinds.named("ResourceQuota"), kinds.named("Node")
        assert pod and quota and node
        self._pod, self._quota, self._node = pod, quota, node

    # Pods

    def make_pod(self, owner: Object, name: str, **spec: Any) -> Object:
        """A pod of this owner's template. Raises ApiError (403) when a quota forbids it."""
        template = copy.deepcopy(owner["spec"]["template"])
        metadata = {k: v for k, v in template.get("metadata", {}).items() if k in ("labels", "annotations") and v}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **metadata,
                "name": name,
                "namespace": owner["metadata"]["namespace"],
                "ownerReferences": [
                    {
                        "apiVersion": owner["apiVersion"],
                        "kind": owner["kind"],
                        "name": owner["metadata"]["name"],
                        "uid": owner["metadata"]["uid"],
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {**template["spec"], **spec},
            "status": {"phase": "Pending", "qosClass": quality(template["spec"])},
        }
        self.admit(pod)
        return self._store.create(self._pod, pod)

    def admit(self, pod: Object) -> None:
        """ResourceQuota: what the namespace uses and this pod together must fit."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for quota in self._store.all(self._quota, namespace):
            hard, used, wanted = quota["spec"].get("hard") or {}, self.used(namespace), demand(pod)
            over = [
                key for key in hard if key in wanted and used.get(key, 0) + wanted[key] > quantities.parse(hard[key])
            ]
            if over:
                said = (
                    f"requested: {','.join(f'{key}={_say(key, wanted[key])}' for key in over)}, "
                    f"used: {','.join(f'{key}={_say(key, used.get(key, 0))}' for key in over)}, "
                    f"limited: {','.join(f'{key}={hard[key]}' for key in over)}"
                )
                message = f'pods "{name}" is forbidden: exceeded quota: {quota["metadata"]["name"]}, {said}'
                raise ApiError(403, "Forbidden", message, {"name": name, "kind": "pods"})

    def used(self, namespace: str) -> dict[str, float]:
        total: dict[str, float] = {}
        for pod in self._store.all(self._pod, namespace):
            if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                for key, value in demand(pod).items():
                    total[key] = total.get(key, 0) + value
        return total

    def kill(self, pod: Object) -> None:
        """Ask a pod to end, as a controller does: the kubelet does the rest."""
        if pod["metadata"].get("deletionTimestamp"):
            return
        if not pod["spec"].get("nodeName"):
            self._store.remove(self._pod, pod)
            return
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
        self._store.change(
            self._pod,
            pod,
            lambda p: p["metadata"].update(deletionTimestamp=timestamp(), deletionGracePeriodSeconds=grace),
        )

    # Replica sets

    def replica_set(self, kind: Kind, rs: Object, pods: list[Object]) -> None:
        if rs["metadata"].get("deletionTimestamp"):
            return
        active = [pod for pod in pods if is_active(pod)]
        wanted = rs["spec"]["replicas"]
        component = "replicaset-controller"
        failed = ""
        for _ in range(min(BURST, wanted - len(active))):
            try:
                pod = self.make_pod(rs, f"{rs['metadata']['name']}-{random_suffix()}")
            except ApiError as error:
                failed = error.message
                self._record(rs, "Warning", "FailedCreate", f"Error creating: {_nameless(failed)}", component)
                break
            self._record(rs, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", component)
        if len(active) > wanted:
            for pod in sorted(active, key=_first_to_go)[: len(active) - wanted]:
                self.kill(pod)
                self._record(rs, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}", component)
        self._count(kind, rs, [pod for pod in pods if is_active(pod)], failed)

    def _count(self, kind: Kind, rs: Object, active: list[Object], failed: str) -> None:
        ready = sum(1 for pod in active if is_ready(pod))
        conditions = [c for c in rs.get("status", {}).get("conditions") or [] if c["type"] != "ReplicaFailure"]
        if failed:
            before = next(
                (c for c in rs.get("status", {}).get("conditions") or [] if c["type"] == "ReplicaFailure"), None
            )
            since = before["lastTransitionTime"] if before else timestamp()
            conditions.append(
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "reason": "FailedCreate",
                    "message": _nameless(failed),
                    "lastTransitionTime": since,
                }
            )
        status = {
            "replicas": len(active),
            **({"fullyLabeledReplicas": len(active)} if active else {}),
            **({"readyReplicas": ready, "availableReplicas": ready} if ready else {}),
            "observedGeneration": rs["metadata"]["generation"],
            **({"conditions": conditions} if conditions else {}),
        }
        if rs.get("status") != status:
            self._store.change(kind, rs, lambda r: r.update(status=status))

    # Stateful sets

    def stateful_set(self, kind: Kind, owner: Object, pods: list[Object]) -> None:
        if owner["metadata"].get("deletionTimestamp"):
            return
        wanted = owner["spec"]["replicas"]
        base, revision = owner["metadata"]["name"], template_hash(owner["spec"]["template"])
        by_name = {pod["metadata"]["name"]: pod for pod in pods}
        for index in range(wanted):
            pod = by_name.get(f"{base}-{index}")
            if pod is None:
                made = self.make_pod(owner, f"{base}-{index}", hostname=f"{base}-{index}")
                self._store.change(
                    self._pod,
                    made,
                    lambda p: p["metadata"].setdefault("labels", {}).update(_of_revision(base, revision)),
                )
                break
            if not is_active(pod) or not is_ready(pod):
                break
        extra = [pod for name, pod in by_name.items() if int(name.rpartition("-")[2]) >= wanted]
        old = [
            pod
            for pod in pods
            if pod["metadata"].get("labels", {}).get("controller-revision-hash")
            != _of_revision(base, revision)["controller-revision-hash"]
        ]
        going = [pod for pod in pods if not is_active(pod)]
        if not going:
            for pod in sorted(extra or old, key=lambda p: p["metadata"]["name"], reverse=True)[:1]:
                self.kill(pod)
        active = [pod for pod in pods if is_active(pod)]
        ready = sum(1 for pod in active if is_ready(pod))
        updated = sum(1 for pod in active if pod not in old)
        name = _of_revision(base, revision)["controller-revision-hash"]
        status = {
            "observedGeneration": owner["metadata"]["generation"],
            "replicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": updated,
            "updatedReplicas": updated,
            "currentRevision": name,
            "updateRevision": name,
            "collisionCount": 0,
        }
        if owner.get("status") != status:
            self._store.change(kind, owner, lambda o: o.update(status=status))

    # Daemon sets

    def daemon_set(self, kind: Kind, owner: Object, pods: list[Object]) -> None:
        if owner["metadata"].get("deletionTimestamp"):
            return
        nodes = [node["metadata"]["name"] for node in self._store.all(self._node)]
        active = [pod for pod in pods if is_active(pod)]
        hash = template_hash(owner["spec"]["template"])
        for node in nodes:
            if not any(pod["spec"].get("nodeName") == node for pod in pods):
                made = self.make_pod(owner, f"{owner['metadata']['name']}-{random_suffix()}", nodeName=node)
                self._store.change(
                    self._pod,
                    made,
                    lambda p: p["metadata"].setdefault("labels", {}).update({"controller-revision-hash": hash}),
                )
        old = [p for p in active if p["metadata"].get("labels", {}).get("controller-revision-hash") != hash]
        if old and len(active) == len(pods):
            self.kill(old[0])
        ready = sum(1 for pod in active if is_ready(pod))
        status = {
            "observedGeneration": owner["metadata"]["generation"],
            "desiredNumberScheduled": len(nodes),
            "currentNumberScheduled": len(active),
            "updatedNumberScheduled": len(active) - len(old),
            "numberReady": ready,
            "numberAvailable": ready,
            "numberMisscheduled": 0,
            **({"numberUnavailable": len(nodes) - ready} if ready < len(nodes) else {}),
        }
        if owner.get("status") != status:
            self._store.change(kind, owner, lambda o: o.update(status=status))

    # Jobs

    def job(self, kind: Kind, owner: Object, pods: list[Object]) -> None:
        if owner["metadata"].get("deletionTimestamp") or _finished(owner):
            return
        spec = owner["spec"]
        succeeded = sum(1 for pod in pods if pod.get("status", {}).get("phase") == "Succeeded")
        failed = sum(1 for pod in pods if pod.get("status", {}).get("phase") == "Failed")
        active = [pod for pod in pods if is_active(pod)]
        conditions: list[Object] = []
        if failed > spec["backoffLimit"]:
            message = "Job has reached the specified backoff limit"
            conditions = [_done("Failed", "BackoffLimitExceeded", message)]
            self._record(owner, "Warning", "BackoffLimitExceeded", message, "job-controller")
        elif succeeded >= spec["completions"]:
            conditions = [_done("Complete", "CompletionsReached", "Reached expected number of succeeded pods")]
            self._record(owner, "Normal", "Completed", "Job completed", "job-controller")
        elif not spec.get("suspend"):
            for _ in range(min(spec["parallelism"], spec["completions"] - succeeded) - len(active)):
                pod = self.make_pod(owner, f"{owner['metadata']['name']}-{random_suffix()}")
                message = f"Created pod: {pod['metadata']['name']}"
                self._record(owner, "Normal", "SuccessfulCreate", message, "job-controller")
        status = {
            "startTime": owner.get("status", {}).get("startTime") or timestamp(),
            **({"active": len(active)} if active else {}),
            **({"succeeded": succeeded} if succeeded else {}),
            **({"failed": failed} if failed else {}),
            "ready": sum(1 for pod in active if is_ready(pod)),
            **({"conditions": conditions} if conditions else {}),
            **({"completionTime": timestamp()} if conditions and conditions[0]["type"] == "Complete" else {}),
        }
        if owner.get("status") != status:
            self._store.change(kind, owner, lambda o: o.update(status=status))


def demand(pod: Object) -> dict[str, float]:
    wanted: dict[str, float] = {"pods": 1, "count/pods": 1}
    for container in pod["spec"].get("containers") or []:
        resources = container.get("resources") or {}
        for group in ("requests", "limits"):
            for key, value in (
                resources.get(group) or (resources.get("limits") if group == "requests" else {}) or {}
            ).items():
                for name in (f"{group}.{key}", *([key] if group == "requests" else [])):
                    wanted[name] = wanted.get(name, 0) + quantities.parse(value)
    return wanted


def _say(key: str, value: float) -> str:
    if key.endswith("cpu"):
        return f"{round(value * 1000)}m" if value % 1 else str(int(value))
    if key.endswith("memory"):
        return f"{int(value) >> 20}Mi"
    return str(int(value))


def _nameless(message: str) -> str:
    """The same failure of differently named pods is one event, not hundreds."""
    return (
        message.replace(message.split('"')[1], message.split('"')[1].rpartition("-")[0], 1)
        if '"' in message
        else message
    )


def _first_to_go(pod: Object) -> tuple[bool, bool, str]:
    newest_first = "".join(chr(255 - ord(letter)) for letter in pod["metadata"]["creationTimestamp"])
    return bool(pod["spec"].get("nodeName")), is_ready(pod), newest_first


def _of_revision(base: str, revision: str) -> dict[str, str]:
    return {"controller-revision-hash": f"{base}-{revision}"}


def _finished(job: Object) -> bool:
    return any(c["type"] in ("Complete", "Failed") for c in job.get("status", {}).get("conditions") or [])


def _done(type: str, reason: str, message: str) -> Object:
    now = timestamp()
    return {
        "type": type,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastProbeTime": now,
        "lastTransitionTime": now,
    }
