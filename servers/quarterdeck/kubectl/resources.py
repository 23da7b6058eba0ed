"""Any kind of object by any of its names, custom ones included, and what of an object may be shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact, remember
from quarterdeck.kubectl.cluster import TABLE, ApiRefusal, Cluster, Object, path_of

DISCOVERY_S = 300.0
HIDDEN = "<hidden>"


@dataclass(frozen=True)
class Resource:
    """One kind as the cluster serves it."""

    group_version: str
    kind: str
    plural: str
    namespaced: bool
    names: tuple[str, ...] = ()
    """Lower-case names by which it is asked for."""

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        return path_of(self.group_version, self.plural, namespace if self.namespaced else None, name, subresource)


POD = Resource("v1", "Pod", "pods", True, ("pod", "pods", "po"))
NODE = Resource("v1", "Node", "nodes", False, ("node", "nodes", "no"))
EVENT = Resource("v1", "Event", "events", True, ("event", "events", "ev"))
NAMESPACE = Resource("v1", "Namespace", "namespaces", False, ("namespace", "namespaces", "ns"))
DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments", True, ("deployment", "deployments", "deploy"))
REPLICA_SET = Resource("apps/v1", "ReplicaSet", "replicasets", True, ("replicaset", "replicasets", "rs"))
STATEFUL_SET = Resource("apps/v1", "StatefulSet", "statefulsets", True, ("statefulset", "statefulsets", "sts"))
DAEMON_SET = Resource("apps/v1", "DaemonSet", "daemonsets", True, ("daemonset", "daemonsets", "ds"))
JOB = Resource("batch/v1", "Job", "jobs", True, ("job", "jobs"))
_COMMON = (POD, NODE, EVENT, NAMESPACE, DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB)


def find(cluster: Cluster, name: str) -> Resource:
    """The kind that is meant by `deploy`, `Deployment`, `deployments.apps` or `apps/v1/Deployment`."""
    wanted = name.strip().lower()
    for resource in _COMMON:
        if wanted in resource.names:
            return resource
    known = _discovered(cluster)
    if wanted not in known:
        known = _discovered(cluster, fresh=True)
    if wanted in known:
        return known[wanted]
    near = get_close_matches(wanted, list(known), n=3, cutoff=0.6)
    hint = (
        f"Did you mean {' or '.join(near)}?" if near else "Kinds are named as in kubectl, e.g. deployments, svc, pvc."
    )
    raise Refusal(f"Context {cluster.name} serves no kind {clip(plain(name), 80)!r}. {hint}")


def by_kind(cluster: Cluster, api_version: str, kind: str) -> Resource:
    """The resource of a manifest's apiVersion and kind."""
    for resource in _COMMON:
        if (resource.group_version, resource.kind) == (api_version, kind):
            return resource
    wanted = f"{api_version}/{kind}".lower()
    for fresh in (False, True):
        known = _discovered(cluster, fresh=fresh)
        if wanted in known:
            return known[wanted]
    served = sorted({f"{r.group_version} {r.kind}" for r in known.values()})
    near = get_close_matches(f"{api_version} {kind}", served, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else "Is its custom resource definition there?"
    raise Refusal(f"Context {cluster.name} serves no {clip(plain(api_version), 60)} {clip(plain(kind), 60)}. {hint}")


def _discovered(cluster: Cluster, *, fresh: bool = False) -> dict[str, Resource]:
    kept = cluster.discovered
    # A miss asks again, but not for every slip of a caller's pen.
    if kept is not None and time.monotonic() - kept[0] < (10.0 if fresh else DISCOVERY_S):
        return dict(kept[1])
    found: dict[str, Resource] = {}
    versions = ["v1"]
    for group in cluster.get("/apis").get("groups") or []:
        versions.append((group.get("preferredVersion") or group["versions"][0])["groupVersion"])
        versions += [v["groupVersion"] for v in group["versions"] if v["groupVersion"] not in versions]
    versions = versions[:200]
    with ThreadPoolExecutor(8) as pool:
        for version, listed in zip(versions, pool.map(lambda v: _served(cluster, v), versions), strict=True):
            group = version.rpartition("/")[0]
            if group == "metrics.k8s.io":
                continue  # its `pods` are figures, not pods
            for entry in listed:
                if "/" in entry["name"] or "list" not in (entry.get("verbs") or []):
                    continue
                names = {
                    entry["name"],
                    entry["kind"].lower(),
                    entry.get("singularName") or "",
                    *(entry.get("shortNames") or []),
                }
                resource = Resource(
                    version, entry["kind"], entry["name"], bool(entry.get("namespaced")), tuple(sorted(names - {""}))
                )
                for key in [
                    *resource.names,
                    *(f"{n}.{group}" for n in resource.names if group),
                    f"{version}/{entry['kind']}".lower(),
                ]:
                    found.setdefault(key.lower(), resource)
    cluster.discovered = (time.monotonic(), found)
    return dict(found)


def _served(cluster: Cluster, version: str) -> list[Object]:
    try:
        return cluster.get(f"/apis/{version}" if "/" in version else f"/api/{version}").get("resources") or []
    except Refusal:
        return []  # one broken aggregated API must not hide the others


def read(cluster: Cluster, resource: Resource, namespace: str, name: str) -> Object:
    """One object; an unknown name gets near matches."""
    try:
        return cluster.get(resource.path(namespace, name))
    except ApiRefusal as error:
        if error.code != 404:
            raise
        raise missing(cluster, resource, namespace, name) from None


def missing(cluster: Cluster, resource: Resource, namespace: str, name: str) -> Refusal:
    """What to say of a name that is not there."""
    where = f"namespace {namespace} of context {cluster.name}" if resource.namespaced else f"context {cluster.name}"
    try:
        names = _names(cluster, resource, namespace)
    except Refusal:
        names = []
    if not names and resource.namespaced and (other := _no_such_namespace(cluster, namespace)):
        return Refusal(other)
    near = get_close_matches(name, names, n=3, cutoff=0.5) or [n for n in names if name and name in n][:3]
    if near:
        hint = f"Did you mean {' or '.join(near)}?"
    elif names:
        hint = f"There are: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}."
    else:
        hint = f"There is no {resource.kind} at all there."
    return Refusal(f"No {resource.kind} {clip(plain(name), 80)!r} in {where}. {hint}")


def _names(cluster: Cluster, resource: Resource, namespace: str) -> list[str]:
    """The first 5,000. A table without its objects is the shortest list there is."""
    table = cluster.get(resource.path(namespace), {"limit": 5000, "includeObject": "None"}, TABLE)
    if table.get("kind") == "Table":
        return [str(row["cells"][0]) for row in table.get("rows") or []]
    return [str(item["metadata"]["name"]) for item in table.get("items") or []]


def _no_such_namespace(cluster: Cluster, namespace: str) -> str | None:
    try:
        names = _names(cluster, NAMESPACE, "")
    except Refusal:
        return None
    if namespace in names or not names:
        return None
    near = get_close_matches(namespace, names, n=3, cutoff=0.5) or names[:10]
    return f"Context {cluster.name} has no namespace {clip(plain(namespace), 63)!r}. Did you mean {' or '.join(near)}?"


def check_namespace(cluster: Cluster, namespace: str) -> None:
    """For an empty list: is it empty, or is there no such namespace?"""
    said = _no_such_namespace(cluster, namespace)
    if said:
        raise Refusal(said)


# What may be shown


def shown(object: Object, spell: Callable[[str], str] = plain) -> Object:
    """The object without secret values, environment values, and the bookkeeping that nobody reads. `spell` says what
    becomes of characters that no eye sees."""
    copied: Object = _clean(object, spell)
    metadata = copied.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
        annotations = metadata.get("annotations")
        if isinstance(annotations, dict):
            # It repeats the whole manifest, values of secrets and all.
            annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
            if not annotations:
                metadata.pop("annotations")
    if copied.get("kind") == "Secret":
        _hide_secret(object, copied)
    return copied


def _hide_secret(object: Object, copied: Object) -> None:
    import base64
    import binascii

    for field in ("data", "stringData"):
        values = object.get(field)
        if not isinstance(values, dict):
            continue
        copied[field] = dict.fromkeys(values, HIDDEN)
        for value in values.values():
            if isinstance(value, str):
                remember([value])
                if field == "data":
                    try:
                        remember([base64.b64decode(value).decode()])
                    except (binascii.Error, ValueError):
                        pass


def _clean(node: Any, spell: Callable[[str], str], field: str = "") -> Any:
    if isinstance(node, dict):
        if field == "env[]" and "value" in node:
            return {**{k: _clean(v, spell, k) for k, v in node.items() if k != "value"}, "value": HIDDEN}
        return {key: _clean(value, spell, str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [_clean(item, spell, f"{field}[]") for item in node]
    return redact(spell(node)) if isinstance(node, str) else node
