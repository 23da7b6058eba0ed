"""What metrics-server would say: the use that the running processes report."""

from __future__ import annotations

from typing import Any

from quarterdeck.titanium.kinds import Kinds
from quarterdeck.titanium.kubelet import Kubelet
from quarterdeck.titanium.store import Object, Store, timestamp


def pods(kubelet: Kubelet, namespace: str) -> list[Object]:
    found = []
    for held in kubelet.held.values():
        metadata = held.pod["metadata"]
        if namespace and metadata["namespace"] != namespace:
            continue
        containers = [
            {"name": run.name, "usage": _usage(*run.process.usage(kubelet.now))} for run in held.runs if run.process
        ]
        if containers:
            found.append(
                {
                    "kind": "PodMetrics",
                    "apiVersion": "metrics.k8s.io/v1beta1",
                    "metadata": {
                        "name": metadata["name"],
                        "namespace": metadata["namespace"],
                        "labels": metadata.get("labels") or {},
                        "creationTimestamp": timestamp(),
                    },
                    "timestamp": timestamp(),
                    "window": "15s",
                    "containers": containers,
                }
            )
    return sorted(found, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))


def nodes(store: Store, kinds: Kinds, kubelet: Kubelet) -> list[Object]:
    kind = kinds.named("Node")
    assert kind is not None
    found: list[Any] = []
    for node in store.all(kind):
        name = node["metadata"]["name"]
        cores, memory = 0.12, 600 << 20
        for held in kubelet.held.values():
            if held.pod["spec"].get("nodeName") == name:
                for run in held.runs:
                    if run.process:
                        used = run.process.usage(kubelet.now)
                        cores, memory = cores + used[0], memory + used[1]
        found.append(
            {
                "kind": "NodeMetrics",
                "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {
                    "name": name,
                    "creationTimestamp": timestamp(),
                    "labels": node["metadata"].get("labels", {}),
                },
                "timestamp": timestamp(),
                "window": "15s",
                "usage": _usage(cores, memory),
            }
        )
    return found


def _usage(cores: float, memory: int) -> dict[str, str]:
    return {"cpu": f"{round(cores * 1e9)}n", "memory": f"{memory >> 10}Ki"}
