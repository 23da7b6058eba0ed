"""What the API fills in where a manifest is silent, as far as clients rely on it."""

from __future__ import annotations

import secrets
from typing import Any

Object = dict[str, Any]


def fill(kind: str, object: Object) -> None:
    metadata = object.setdefault("metadata", {})
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + random_suffix()
    match kind:
        case "Pod":
            _pod(object.setdefault("spec", {}))
            object.setdefault("status", {"phase": "Pending", "qosClass": quality(object["spec"])})
        case "Deployment":
            spec = object.setdefault("spec", {})
            spec.setdefault("replicas", 1)
            spec.setdefault("revisionHistoryLimit", 10)
            spec.setdefault("progressDeadlineSeconds", 600)
            strategy = spec.setdefault("strategy", {})
            if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
                rolling = strategy.setdefault("rollingUpdate", {})
                rolling.setdefault("maxUnavailable", "25%")
                rolling.setdefault("maxSurge", "25%")
            _template(spec)
        case "ReplicaSet" | "StatefulSet" | "ReplicationController":
            spec = object.setdefault("spec", {})
            spec.setdefault("replicas", 1)
            _template(spec)
        case "DaemonSet":
            _template(object.setdefault("spec", {}))
        case "Job":
            spec = object.setdefault("spec", {})
            for field, value in (("parallelism", 1), ("completions", 1), ("backoffLimit", 6)):
                spec.setdefault(field, value)
            labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
            labels.setdefault("job-name", metadata.get("name", ""))
            spec.setdefault("selector", {"matchLabels": {"job-name": metadata.get("name", "")}})
            _template(spec)
        case "Service":
            spec = object.setdefault("spec", {})
            spec.setdefault("type", "ClusterIP")
            spec.setdefault("sessionAffinity", "None")
            if spec["type"] != "ExternalName":
                spec.setdefault("clusterIP", f"10.96.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}")
                spec.setdefault("clusterIPs", [spec["clusterIP"]])
            for port in spec.get("ports") or []:
                port.setdefault("protocol", "TCP")
                port.setdefault("targetPort", port.get("port"))
        case "Secret":
            object["type"] = object.get("type") or "Opaque"
            _encode_secret(object)
        case "Namespace":
            metadata.setdefault("labels", {}).setdefault("kubernetes.io/metadata.name", metadata.get("name", ""))
            object.setdefault("spec", {"finalizers": ["kubernetes"]})
            object.setdefault("status", {"phase": "Active"})
        case "PersistentVolumeClaim":
            object.setdefault("status", {"phase": "Pending"})


def _encode_secret(object: Object) -> None:
    import base64

    for key, value in (object.pop("stringData", None) or {}).items():
        object.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()


def _template(spec: Object) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {}).setdefault("creationTimestamp", None)
    _pod(template.setdefault("spec", {}))


def _pod(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    for container in (c for c in containers if isinstance(c, dict)):
        image = str(container.get("image", ""))
        latest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("resources", {})
        for port in container.get("ports") or []:
            port.setdefault("protocol", "TCP")
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            if isinstance(probe := container.get(name), dict):
                for field, value in (
                    ("timeoutSeconds", 1),
                    ("periodSeconds", 10),
                    ("successThreshold", 1),
                    ("failureThreshold", 3),
                ):
                    probe.setdefault(field, value)


def quality(spec: Object) -> str:
    resources = [container.get("resources") or {} for container in spec.get("containers") or []]
    if all(not r.get("requests") and not r.get("limits") for r in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= set(r.get("limits") or {}) and (r.get("requests") or r["limits"]) == r["limits"]
        for r in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def random_suffix(length: int = 5) -> str:
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(length))
