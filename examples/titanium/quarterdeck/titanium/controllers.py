"""The loop that keeps the cluster true: hears what changed, reconciles the owners of it, and lets the kubelet work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from quarterdeck.titanium.events import Recorder
from quarterdeck.titanium.kinds import Kind, Kinds
from quarterdeck.titanium.kubelet import Kubelet
from quarterdeck.titanium.rollouts import Deployments
from quarterdeck.titanium.scheduler import Scheduler
from quarterdeck.titanium.selectors import object_matches
from quarterdeck.titanium.status import ApiError
from quarterdeck.titanium.store import Happened, Store
from quarterdeck.titanium.workloads import Workloads, is_active, is_ready

Object = dict[str, Any]
TICK_S = 0.05
RETRY_S = 1.0
"""How often (in the world's seconds) what could not be done is tried again."""
log = logging.getLogger("quarterdeck.titanium")


class Controllers:
    def __init__(self, store: Store, kinds: Kinds, kubelet: Kubelet, record: Recorder, speed: float) -> None:
        def kind(name: str) -> Kind:
            found = kinds.named(name)
            assert found is not None
            return found

        self._store, self._kinds, self._kubelet, self._speed = store, kinds, kubelet, speed
        self._pod, self._service, self._endpoints = kind("Pod"), kind("Service"), kind("Endpoints")
        self._namespace, self._crd = kind("Namespace"), kind("CustomResourceDefinition")
        self._deployment, self._set = kind("Deployment"), kind("ReplicaSet")
        workloads = Workloads(store, kinds, record)
        self._workloads = workloads
        deployments = Deployments(store, self._deployment, self._set, record, speed)
        self._scheduler = Scheduler(store, kinds, record)
        self._owners: dict[str, Callable[[Kind, Object, list[Object]], None]] = {
            "Deployment": lambda _, owner, owned: deployments.reconcile(owner, owned),
            "ReplicaSet": workloads.replica_set,
            "StatefulSet": workloads.stateful_set,
            "DaemonSet": workloads.daemon_set,
            "Job": workloads.job,
        }
        self._owned: dict[str, dict[tuple[str, str, str], Kind]] = {}
        """Owner uid → what it owns, as (kind, namespace, name)."""
        self._dirty: dict[tuple[str, str, str], Kind] = {}
        self._unplaced: set[tuple[str, str]] = set()
        self._services: set[str] = set()
        self._orphans: set[str] = set()
        self._retry_at = 0.0
        store.listeners.append(self._heard)

    def now(self) -> float:
        return asyncio.get_running_loop().time() * self._speed

    async def run(self) -> None:
        while True:
            try:
                self.tick(self.now())
            except Exception:
                log.exception("a controller failed")
            await asyncio.sleep(TICK_S / max(1.0, self._speed / 4))

    def tick(self, now: float) -> None:
        if now >= self._retry_at:
            self._retry_at = now + RETRY_S
            self._again()
        for _ in range(10):  # one change leads to the next; a bound keeps a fight from hanging the world
            if not (self._dirty or self._services or self._orphans):
                break
            self._reconcile()
        self._place()
        self._kubelet.tick(now)

    # Hearing

    def _heard(self, happened: Happened) -> None:
        object, kind = happened.object, happened.kind
        metadata = object["metadata"]
        key = (kind.kind, metadata.get("namespace", ""), metadata["name"])
        for owner in metadata.get("ownerReferences") or []:
            if happened.type == "DELETED":
                self._owned.get(owner["uid"], {}).pop(key, None)
            else:
                self._owned.setdefault(owner["uid"], {})[key] = kind
            owner_kind = self._kinds.named(owner["kind"])
            if owner["kind"] in self._owners and owner_kind:
                self._dirty[(owner["kind"], metadata.get("namespace", ""), owner["name"])] = owner_kind
        if kind.kind in self._owners and happened.type != "DELETED":
            self._dirty[key] = kind
        if happened.type == "DELETED":
            self._orphans.add(metadata["uid"])
            if kind is self._crd:
                self._drop_kind(object)
        if kind is self._pod:
            self._services.add(metadata["namespace"])
            if happened.type != "DELETED" and not object["spec"].get("nodeName"):
                self._unplaced.add((metadata["namespace"], metadata["name"]))
        if kind is self._service:
            self._services.add(metadata["namespace"])
        if kind is self._crd and happened.type != "DELETED":
            self._define(object)
        if kind is self._namespace and metadata.get("deletionTimestamp") and happened.type != "DELETED":
            self._empty(object)

    def _again(self) -> None:
        for name in self._owners:
            kind = self._kinds.named(name)
            for owner in self._store.each(kind) if kind else []:
                if name == "ReplicaSet" and owner["spec"]["replicas"] == owner.get("status", {}).get("replicas", 0):
                    continue
                metadata = owner["metadata"]
                self._dirty[(name, metadata.get("namespace", ""), metadata["name"])] = kind  # type: ignore[assignment]
        for namespace in self._store.each(self._namespace):
            if namespace["metadata"].get("deletionTimestamp"):
                self._empty(namespace)

    # Doing

    def _reconcile(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for (name, namespace, object_name), kind in dirty.items():
            owner = self._store.find(kind, namespace, object_name)
            if owner is None:
                continue
            try:
                self._owners[name](kind, owner, self._belongings(owner))
            except ApiError as error:
                log.debug("%s %s: %s", name, object_name, error)
        for uid in list(self._orphans):
            self._orphans.discard(uid)
            self._collect(uid)
        services, self._services = self._services, set()
        for namespace in services:
            self._connect(namespace)

    def _belongings(self, owner: Object) -> list[Object]:
        found = []
        for (_, namespace, name), kind in list(self._owned.get(owner["metadata"]["uid"], {}).items()):
            object = self._store.find(kind, namespace, name)
            if object is not None:
                found.append(object)
        return found

    def _collect(self, uid: str) -> None:
        """Garbage: what the deleted object owned goes too."""
        for (_, namespace, name), kind in list(self._owned.pop(uid, {}).items()):
            object = self._store.find(kind, namespace, name)
            if object is None:
                continue
            if kind is self._pod:
                self._workloads.kill(object)
            else:
                self._store.remove(kind, object)

    def _place(self) -> None:
        for namespace, name in list(self._unplaced):
            pod = self._store.find(self._pod, namespace, name)
            if pod is None or pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
                self._unplaced.discard((namespace, name))
            elif not pod.get("status", {}).get("conditions") or self._retry_at - self.now() > RETRY_S * 0.9:
                self._scheduler.place(pod)

    def _connect(self, namespace: str) -> None:
        """Endpoints: the addresses of a service's ready pods."""
        services = self._store.all(self._service, namespace)
        if not services:
            return
        pods = [pod for pod in self._store.all(self._pod, namespace) if is_active(pod)]
        for service in services:
            selector = service["spec"].get("selector")
            if not selector:
                continue
            chosen = [p for p in pods if object_matches({"matchLabels": selector}, p["metadata"].get("labels") or {})]
            ports = [
                {"name": port.get("name", ""), "port": port["port"], "protocol": port.get("protocol", "TCP")}
                for port in service["spec"].get("ports") or []
            ]
            subset: Object = {"ports": ports}
            for field, ready in (("addresses", True), ("notReadyAddresses", False)):
                addresses = [_address(p) for p in chosen if is_ready(p) is ready and p["status"].get("podIP")]
                if addresses:
                    subset[field] = addresses
            subsets = [subset] if len(subset) > 1 else []
            metadata = {"name": service["metadata"]["name"], "namespace": namespace}
            current = self._store.find(self._endpoints, namespace, metadata["name"])
            if current is None:
                wanted = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
                self._store.create(self._endpoints, wanted)
            elif current.get("subsets") != subsets:
                self._store.change(self._endpoints, current, partial(_set_subsets, subsets))

    def ready_pods(self, namespace: str, service: str) -> list[Object]:
        """The pods that answer for a service now."""
        found = self._store.find(self._service, namespace, service)
        if found is None:
            return []
        selector = {"matchLabels": found["spec"].get("selector") or {"": ""}}
        pods = self._store.all(self._pod, namespace)
        return [
            p
            for p in pods
            if is_active(p) and is_ready(p) and object_matches(selector, p["metadata"].get("labels") or {})
        ]

    def _empty(self, namespace: Object) -> None:
        """A namespace that ends takes everything in it along."""
        name = namespace["metadata"]["name"]
        left = 0
        for kind in self._kinds:
            if not kind.namespaced or "delete" not in kind.verbs:
                continue
            for object in self._store.all(kind, name):
                if kind is self._pod:
                    left += 1
                    self._workloads.kill(object)
                else:
                    self._store.remove(kind, object)
        if not left and self._store.find(self._namespace, "", name) is not None:
            self._store.remove(self._namespace, namespace)

    def _define(self, definition: Object) -> None:
        self._kinds.define(definition)
        names = definition["spec"]["names"]
        established = [
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found"},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "accepted"},
        ]
        status = {
            "conditions": established,
            "acceptedNames": names,
            "storedVersions": [v["name"] for v in definition["spec"]["versions"] if v.get("storage")],
        }
        if definition.get("status") != status:
            self._store.change(self._crd, definition, lambda d: d.update(status=status))

    def _drop_kind(self, definition: Object) -> None:
        spec = definition["spec"]
        kind = self._kinds.named(spec["names"]["kind"], spec["group"])
        if kind is not None:
            for object in self._store.all(kind):
                self._store.remove(kind, object)
        self._kinds.forget(definition)


def _set_subsets(subsets: list[Object], endpoints: Object) -> None:
    endpoints["subsets"] = subsets


def _address(pod: Object) -> Object:
    return {
        "ip": pod["status"]["podIP"],
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    }
