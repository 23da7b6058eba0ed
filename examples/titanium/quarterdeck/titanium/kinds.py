"""The kinds of objects the cluster knows, as one table; custom resources are added to it while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    columns: tuple[dict[str, Any], ...] = ()
    """Further columns of its table (custom resources: additionalPrinterColumns)."""

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> tuple[str, str]:
        return self.group, self.plural


_ALL = ("all",)
_BUILT_IN = (
    Kind("", "v1", "Namespace", "namespaces", False, ("ns",), ("status", "finalize")),
    Kind("", "v1", "Node", "nodes", False, ("no",), ("status",)),
    Kind("", "v1", "Pod", "pods", True, ("po",), ("status", "log", "eviction"), _ALL),
    Kind("", "v1", "Service", "services", True, ("svc",), ("status",), _ALL),
    Kind("", "v1", "Endpoints", "endpoints", True, ("ep",)),
    Kind("", "v1", "ConfigMap", "configmaps", True, ("cm",)),
    Kind("", "v1", "Secret", "secrets"),
    Kind("", "v1", "Event", "events", True, ("ev",)),
    Kind("", "v1", "ServiceAccount", "serviceaccounts", True, ("sa",)),
    Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", True, ("pvc",), ("status",)),
    Kind("", "v1", "PersistentVolume", "persistentvolumes", False, ("pv",), ("status",)),
    Kind("", "v1", "ResourceQuota", "resourcequotas", True, ("quota",), ("status",)),
    Kind("", "v1", "LimitRange", "limitranges", True, ("limits",)),
    Kind("apps", "v1", "Deployment", "deployments", True, ("deploy",), ("status", "scale"), _ALL),
    Kind("apps", "v1", "ReplicaSet", "replicasets", True, ("rs",), ("status", "scale"), _ALL),
    Kind("apps", "v1", "StatefulSet", "statefulsets", True, ("sts",), ("status", "scale"), _ALL),
    Kind("apps", "v1", "DaemonSet", "daemonsets", True, ("ds",), ("status",), _ALL),
    Kind("apps", "v1", "ControllerRevision", "controllerrevisions"),
    Kind("batch", "v1", "Job", "jobs", True, (), ("status",), _ALL),
    Kind("batch", "v1", "CronJob", "cronjobs", True, ("cj",), ("status",), _ALL),
    Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, ("hpa",), ("status",), _ALL),
    Kind("networking.k8s.io", "v1", "Ingress", "ingresses", True, ("ing",), ("status",)),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", True, ("netpol",)),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", True, ("pdb",), ("status",)),
    Kind("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False),
    Kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False),
    Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", False, ("sc",)),
    Kind("coordination.k8s.io", "v1", "Lease", "leases"),
    Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False,
         ("crd", "crds"), ("status",)),
    Kind("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", verbs=("get", "list")),
    Kind("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes", False, verbs=("get", "list")),
    Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False, verbs=("create",)),
    Kind("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False, verbs=("create",)),
    Kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", False, verbs=("create",)),
    Kind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", False, verbs=("create",)),
)  # fmt: skip


class Kinds:
    """The table of one cluster."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str], Kind] = {kind.key: kind for kind in _BUILT_IN}

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._by_key.values()))

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        kind = self._by_key.get((group, plural))
        return kind if kind is not None and kind.version == version else None

    def named(self, kind: str, group: str | None = None) -> Kind | None:
        found = (k for k in self._by_key.values() if k.kind == kind and group in (None, k.group))
        return next(found, None)

    def groups(self) -> dict[str, list[str]]:
        """Group → its versions."""
        found: dict[str, list[str]] = {}
        for kind in self._by_key.values():
            versions = found.setdefault(kind.group, [])
            if kind.version not in versions:
                versions.append(kind.version)
        return found

    def of(self, group: str, version: str) -> list[Kind]:
        return [kind for kind in self._by_key.values() if (kind.group, kind.version) == (group, version)]

    def define(self, definition: dict[str, Any]) -> None:
        """Serve what a CustomResourceDefinition defines; its storage version only."""
        spec = definition["spec"]
        names = spec["names"]
        version = next((v for v in spec["versions"] if v.get("storage")), spec["versions"][0])
        subresources = tuple((version.get("subresources") or {}).keys())
        kind = Kind(
            spec["group"],
            version["name"],
            names["kind"],
            names["plural"],
            spec.get("scope") == "Namespaced",
            tuple(names.get("shortNames") or ()),
            subresources,
            tuple(names.get("categories") or ()),
            columns=tuple(version.get("additionalPrinterColumns") or ()),
        )
        self._by_key[kind.key] = kind

    def forget(self, definition: dict[str, Any]) -> None:
        spec = definition["spec"]
        self._by_key.pop((spec["group"], spec["names"]["plural"]), None)
