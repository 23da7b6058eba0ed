"""Finds a node for each pod, and says why there is none."""

from __future__ import annotations

from typing import Any

from quarterdeck.titanium import quantities
from quarterdeck.titanium.events import Recorder
from quarterdeck.titanium.kinds import Kinds
from quarterdeck.titanium.store import Store, timestamp

Object = dict[str, Any]
NOT_READY = "node.kubernetes.io/not-ready"


class Scheduler:
    def __init__(self, store: Store, kinds: Kinds, record: Recorder) -> None:
        pod, node = kinds.named("Pod"), kinds.named("Node")
        assert pod and node
        self._store, self._pod, self._node, self._record = store, pod, node, record

    def place(self, pod: Object) -> None:
        nodes = self._store.all(self._node)
        refusals: dict[str, int] = {}
        fitting: list[tuple[float, str]] = []
        for node in nodes:
            why = self._refuses(node, pod)
            if why is None:
                fitting.append((self._load(node), node["metadata"]["name"]))
            else:
                refusals[why] = refusals.get(why, 0) + 1
        if fitting:
            self._bind(pod, min(fitting)[1])
        else:
            self._refuse(pod, len(nodes), refusals)

    def _refuses(self, node: Object, pod: Object) -> str | None:
        spec = pod["spec"]
        if node.get("spec", {}).get("unschedulable"):
            return "node(s) were unschedulable"
        taints = list(node.get("spec", {}).get("taints") or [])
        conditions = node.get("status", {}).get("conditions") or []
        if any(c["type"] == "Ready" and c["status"] != "True" for c in conditions):
            taints.append({"key": NOT_READY, "effect": "NoSchedule"})
        for taint in taints:
            if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerates(spec, taint):
                value = taint.get("value", "")
                return f"node(s) had untolerated taint {{{taint['key']}: {value}}}"
        labels = node["metadata"].get("labels") or {}
        if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
            return "node(s) didn't match Pod's node affinity/selector"
        capacity = node.get("status", {}).get("allocatable") or {}
        taken = self._taken(node)
        for resource in ("cpu", "memory"):
            if taken[resource] + _request(pod, resource) > quantities.parse(capacity.get(resource, "1000000")):
                return f"Insufficient {resource}"
        return None

    def _taken(self, node: Object) -> dict[str, float]:
        total = {"cpu": 0.0, "memory": 0.0}
        for pod in self._store.each(self._pod):
            if pod["spec"].get("nodeName") == node["metadata"]["name"] and pod.get("status", {}).get("phase") not in (
                "Succeeded",
                "Failed",
            ):
                for resource in total:
                    total[resource] += _request(pod, resource)
        return total

    def _load(self, node: Object) -> float:
        name = node["metadata"]["name"]
        return sum(1 for pod in self._store.each(self._pod) if pod["spec"].get("nodeName") == name)

    def _bind(self, pod: Object, node: str) -> None:
        condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": timestamp()}

        def alter(p: Object) -> None:
            p["spec"]["nodeName"] = node
            p.setdefault("status", {})["conditions"] = [condition]

        bound = self._store.change(self._pod, pod, alter)
        if bound is not None:
            metadata = pod["metadata"]
            message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
            self._record(bound, "Normal", "Scheduled", message, "default-scheduler")

    def _refuse(self, pod: Object, count: int, refusals: dict[str, int]) -> None:
        said = ", ".join(f"{number} {why}" for why, number in sorted(refusals.items()))
        preempt = f"preemption: 0/{count} nodes are available: {count} Preemption is not helpful for scheduling."
        message = (
            f"0/{count} nodes are available: {said}. {preempt}" if count else "no nodes available to schedule pods"
        )
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": timestamp(),
        }
        old = next(iter(pod.get("status", {}).get("conditions") or []), None)
        if old is None or old.get("message") != message:
            self._store.change(
                self._pod, pod, lambda p: p.setdefault("status", {}).update(phase="Pending", conditions=[condition])
            )
        self._record(pod, "Warning", "FailedScheduling", message, "default-scheduler")


def _tolerates(spec: Object, taint: Object) -> bool:
    for toleration in spec.get("tolerations") or []:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        if toleration.get("operator") == "Exists" and toleration.get("key") in (None, "", taint["key"]):
            return True
        if toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


def _request(pod: Object, resource: str) -> float:
    total = 0.0
    for container in pod["spec"].get("containers") or []:
        resources = container.get("resources") or {}
        requests = resources.get("requests") or resources.get("limits") or {}
        total += quantities.parse(requests.get(resource, 0))
    return total
