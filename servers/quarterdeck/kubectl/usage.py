"""CPU and memory in use, from the metrics API."""

from __future__ import annotations

from quarterdeck.keel.answers import fit
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import pods, resources
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Object, path_of
from quarterdeck.kubectl.models import Top, Usage
from quarterdeck.kubectl.words import dig, quantity

METRICS = "metrics.k8s.io/v1beta1"


def top_pods(cluster: Cluster, namespace: str, selector: str | None) -> Top:
    listed = _read(cluster, path_of(METRICS, "pods", namespace), selector)
    if not listed and not selector:
        resources.check_namespace(cluster, namespace)
    limits = {}
    if len(listed) <= 200:
        whole = cluster.get(resources.POD.path(namespace), {"labelSelector": selector, "limit": 500})
        limits = {pod["metadata"]["name"]: _limit(pod) for pod in whole.get("items") or []}
    rows = []
    for item in listed:
        memory = sum(quantity(c["usage"].get("memory", 0)) for c in item.get("containers") or [])
        cpu = sum(quantity(c["usage"].get("cpu", 0)) for c in item.get("containers") or [])
        name = item["metadata"]["name"]
        limit = limits.get(name, 0)
        note = f"{memory / limit:.0%} of its memory limit" if limit and memory / limit > 0.7 else None
        rows.append(Usage(name=name, cpu_millicores=round(cpu * 1000), memory_mib=round(memory / 2**20), note=note))
    return _top(f"pods in {pods.where(cluster, namespace)}", rows)


def top_nodes(cluster: Cluster) -> Top:
    listed = _read(cluster, path_of(METRICS, "nodes"), None)
    nodes = {n["metadata"]["name"]: n for n in cluster.get(resources.NODE.path(), {"limit": 1000}).get("items") or []}
    rows = []
    for item in listed:
        cpu, memory = quantity(item["usage"].get("cpu", 0)), quantity(item["usage"].get("memory", 0))
        room = dig(nodes.get(item["metadata"]["name"]), "status", "allocatable") or {}
        shares = [
            f"{used / quantity(room[key]):.0%} of {key}"
            for key, used in (("cpu", cpu), ("memory", memory))
            if quantity(room.get(key, 0))
        ]
        name = item["metadata"]["name"]
        note = ", ".join(shares) or None
        rows.append(Usage(name=name, cpu_millicores=round(cpu * 1000), memory_mib=round(memory / 2**20), note=note))
    return _top(f"nodes of {cluster.name}", rows)


def _read(cluster: Cluster, path: str, selector: str | None) -> list[Object]:
    try:
        found: list[Object] = cluster.get(path, {"labelSelector": selector}).get("items") or []
        return found
    except ApiRefusal as error:
        if error.code in (404, 503):
            raise Refusal(
                f"Context {cluster.name} serves no metrics (metrics.k8s.io): metrics-server is not installed or not "
                "running. The stats server's query_metrics may know more."
            ) from None
        raise


def _limit(pod: Object) -> float:
    containers = dig(pod, "spec", "containers") or []
    limits = [quantity(dig(c, "resources", "limits", "memory") or 0) for c in containers]
    return sum(limits) if all(limits) else 0


def _top(where: str, rows: list[Usage]) -> Top:
    rows.sort(key=lambda row: (-row.memory_mib, row.name))
    return fit(
        lambda n: Top(where=where, total=len(rows), rows=rows[:n], left_out=len(rows) - n or None), min(len(rows), 150)
    )
