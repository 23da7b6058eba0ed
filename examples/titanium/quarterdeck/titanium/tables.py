"""`kubectl get` shows tables that the server makes; these are its columns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from quarterdeck.titanium.kinds import Kind

Object = dict[str, Any]
Column = tuple[str, int, Callable[[Object], Any]]
"""Name, priority (1 is shown with -o wide only), and how the cell is made."""


def age(moment: str | None) -> str:
    if not moment:
        return "<unknown>"
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    seconds = max(0, seconds)
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"


def _get(object: Any, *path: str, default: Any = None) -> Any:
    for part in path:
        object = object.get(part) if isinstance(object, dict) else None
    return default if object is None else object


def pod_status(pod: Object) -> str:
    status = pod.get("status") or {}
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for index, init in enumerate(status.get("initContainerStatuses") or []):
        state = init.get("state") or {}
        if _get(state, "terminated", "exitCode") == 0:
            continue
        if "terminated" in state:
            return "Init:" + (state["terminated"].get("reason") or f"ExitCode:{state['terminated'].get('exitCode')}")
        if (why := _get(state, "waiting", "reason")) and why != "PodInitializing":
            return f"Init:{why}"
        return f"Init:{index}/{len(_get(pod, 'spec', 'initContainers', default=[]))}"
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        if why := _get(state, "waiting", "reason"):
            reason = why
        elif "terminated" in state:
            ended = state["terminated"]
            reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode')}"
        elif container.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        reason = "Running"
    if _get(pod, "metadata", "deletionTimestamp"):
        return "Terminating"
    return str(reason)


def _ready(pod: Object) -> str:
    statuses = _get(pod, "status", "containerStatuses", default=[])
    total = len(_get(pod, "spec", "containers", default=[]))
    return f"{sum(1 for status in statuses if status.get('ready'))}/{total}"


def _restarts(pod: Object) -> str:
    statuses = _get(pod, "status", "containerStatuses", default=[])
    count = sum(status.get("restartCount", 0) for status in statuses)
    ends = [e for s in statuses if (e := _get(s, "lastState", "terminated", "finishedAt"))]
    return f"{count} ({age(max(ends))} ago)" if count and ends else str(count)


def _images(object: Object) -> str:
    return ",".join(c.get("image", "") for c in _get(object, "spec", "template", "spec", "containers", default=[]))


def _containers(object: Object) -> str:
    return ",".join(c.get("name", "") for c in _get(object, "spec", "template", "spec", "containers", default=[]))


def _selector(object: Object) -> str:
    labels = _get(object, "spec", "selector", "matchLabels", default={})
    return ",".join(f"{key}={value}" for key, value in labels.items()) or "<none>"


def _service_selector(service: Object) -> str:
    labels = _get(service, "spec", "selector", default={})
    return ",".join(f"{key}={value}" for key, value in labels.items()) or "<none>"


def _ports(service: Object) -> str:
    ports = _get(service, "spec", "ports", default=[])
    return ",".join(f"{port.get('port')}/{port.get('protocol', 'TCP')}" for port in ports) or "<none>"


def _node_status(node: Object) -> str:
    ready = next((c for c in _get(node, "status", "conditions", default=[]) if c["type"] == "Ready"), None)
    said = ["Ready" if ready and ready["status"] == "True" else "NotReady" if ready else "Unknown"]
    if _get(node, "spec", "unschedulable"):
        said.append("SchedulingDisabled")
    return ",".join(said)


def _roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = _get(node, "metadata", "labels", default={})
    return ",".join(sorted(key[len(prefix) :] for key in labels if key.startswith(prefix))) or "<none>"


def _endpoints(object: Object) -> str:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in object.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    ]
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") or "<none>"


def _field(*path: str, default: Any = "") -> Callable[[Object], Any]:
    return lambda object: _get(object, *path, default=default)


def _last_seen(event: Object) -> str:
    return age(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp"))


def _involved(event: Object) -> str:
    return f"{_get(event, 'involvedObject', 'kind', default='').lower()}/{_get(event, 'involvedObject', 'name', default='')}"


NAME: Column = ("Name", 0, _field("metadata", "name"))
AGE: Column = ("Age", 0, lambda object: age(_get(object, "metadata", "creationTimestamp")))
_WORKLOAD_WIDE: tuple[Column, ...] = (
    ("Containers", 1, _containers),
    ("Images", 1, _images),
    ("Selector", 1, _selector),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        NAME,
        ("Ready", 0, _ready),
        ("Status", 0, pod_status),
        ("Restarts", 0, _restarts),
        AGE,
        ("IP", 1, _field("status", "podIP", default="<none>")),
        ("Node", 1, _field("spec", "nodeName", default="<none>")),
        ("Nominated Node", 1, lambda _: "<none>"),
        ("Readiness Gates", 1, lambda _: "<none>"),
    ),
    "deployments.apps": (
        NAME,
        ("Ready", 0, lambda d: f"{_get(d, 'status', 'readyReplicas', default=0)}/{_get(d, 'spec', 'replicas', default=0)}"),
        ("Up-to-date", 0, _field("status", "updatedReplicas", default=0)),
        ("Available", 0, _field("status", "availableReplicas", default=0)),
        AGE,
        *_WORKLOAD_WIDE,
    ),
    "replicasets.apps": (
        NAME,
        ("Desired", 0, _field("spec", "replicas", default=0)),
        ("Current", 0, _field("status", "replicas", default=0)),
        ("Ready", 0, _field("status", "readyReplicas", default=0)),
        AGE,
        *_WORKLOAD_WIDE,
    ),
    "statefulsets.apps": (
        NAME,
        ("Ready", 0, lambda d: f"{_get(d, 'status', 'readyReplicas', default=0)}/{_get(d, 'spec', 'replicas', default=0)}"),
        AGE,
        ("Containers", 1, _containers),
        ("Images", 1, _images),
    ),
    "daemonsets.apps": (
        NAME,
        ("Desired", 0, _field("status", "desiredNumberScheduled", default=0)),
        ("Current", 0, _field("status", "currentNumberScheduled", default=0)),
        ("Ready", 0, _field("status", "numberReady", default=0)),
        ("Up-to-date", 0, _field("status", "updatedNumberScheduled", default=0)),
        ("Available", 0, _field("status", "numberAvailable", default=0)),
        ("Node Selector", 0, lambda _: "<none>"),
        AGE,
        *_WORKLOAD_WIDE,
    ),
    "jobs.batch": (
        NAME,
        ("Status", 0, lambda j: "Complete" if _get(j, "status", "succeeded") else "Failed" if _get(j, "status", "failed") else "Running"),
        ("Completions", 0, lambda j: f"{_get(j, 'status', 'succeeded', default=0)}/{_get(j, 'spec', 'completions', default=1)}"),
        ("Duration", 0, lambda j: age(_get(j, "status", "startTime"))),
        AGE,
    ),
    "nodes": (
        NAME,
        ("Status", 0, _node_status),
        ("Roles", 0, _roles),
        AGE,
        ("Version", 0, _field("status", "nodeInfo", "kubeletVersion")),
        ("Internal-IP", 1, lambda n: next((a["address"] for a in _get(n, "status", "addresses", default=[]) if a["type"] == "InternalIP"), "<none>")),
        ("External-IP", 1, lambda _: "<none>"),
        ("OS-Image", 1, _field("status", "nodeInfo", "osImage")),
        ("Kernel-Version", 1, _field("status", "nodeInfo", "kernelVersion")),
        ("Container-Runtime", 1, _field("status", "nodeInfo", "containerRuntimeVersion")),
    ),
    "events": (
        ("Last Seen", 0, _last_seen),
        ("Type", 0, _field("type")),
        ("Reason", 0, _field("reason")),
        ("Object", 0, _involved),
        ("Subobject", 1, _field("involvedObject", "fieldPath")),
        ("Source", 1, _field("source", "component")),
        ("Message", 0, lambda e: str(e.get("message", "")).strip()),
        ("First Seen", 1, lambda e: age(e.get("firstTimestamp"))),
        ("Count", 1, _field("count", default=1)),
        ("Name", 1, _field("metadata", "name")),
    ),
    "services": (
        NAME,
        ("Type", 0, _field("spec", "type")),
        ("Cluster-IP", 0, _field("spec", "clusterIP", default="<none>")),
        ("External-IP", 0, lambda _: "<none>"),
        ("Port(s)", 0, _ports),
        AGE,
        ("Selector", 1, _service_selector),
    ),
    "endpoints": (NAME, ("Endpoints", 0, _endpoints), AGE),
    "configmaps": (NAME, ("Data", 0, lambda c: len(c.get("data") or {}) + len(c.get("binaryData") or {})), AGE),
    "secrets": (NAME, ("Type", 0, _field("type")), ("Data", 0, lambda s: len(s.get("data") or {})), AGE),
    "namespaces": (NAME, ("Status", 0, _field("status", "phase")), AGE),
    "persistentvolumeclaims": (
        NAME,
        ("Status", 0, _field("status", "phase")),
        ("Volume", 0, _field("spec", "volumeName")),
        ("Capacity", 0, _field("status", "capacity", "storage")),
        ("Access Modes", 0, lambda p: ",".join(_get(p, "status", "accessModes", default=[]))),
        ("StorageClass", 0, _field("spec", "storageClassName")),
        AGE,
    ),
    "horizontalpodautoscalers.autoscaling": (
        NAME,
        ("Reference", 0, lambda h: f"{_get(h, 'spec', 'scaleTargetRef', 'kind')}/{_get(h, 'spec', 'scaleTargetRef', 'name')}"),
        ("MinPods", 0, _field("spec", "minReplicas", default=1)),
        ("MaxPods", 0, _field("spec", "maxReplicas")),
        ("Replicas", 0, _field("status", "currentReplicas", default=0)),
        AGE,
    ),
}  # fmt: skip


def table(kind: Kind, objects: list[Object], include: str, version: str, metadata: Object) -> Object:
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    columns = COLUMNS.get(resource) or _plain(kind)
    rows = [
        {"cells": [cell(object) for _, _, cell in columns], **_included(object, include, version)} for object in objects
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            {
                "name": name,
                "type": "string",
                "format": "name" if name == "Name" and priority == 0 else "",
                "description": "",
                "priority": priority,
            }
            for name, priority, _ in columns
        ],
        "rows": rows,
    }


def _plain(kind: Kind) -> tuple[Column, ...]:
    own = tuple(
        (
            column["name"],
            column.get("priority", 0),
            _field(*column["jsonPath"].lstrip(".").split("."), default="<none>"),
        )
        for column in kind.columns
        if column.get("name") != "Age"
    )
    if kind.columns:
        return (NAME, *own, AGE)
    return (NAME, ("Created At", 0, _field("metadata", "creationTimestamp")))


def _included(object: Object, include: str, version: str) -> Object:
    match include:
        case "None":
            return {}
        case "Object":
            return {"object": object}
        case _:
            return {"object": partial(object, version)}


def partial(object: Object, version: str) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": object["metadata"]}
