"""The objects of the cluster, their versions, and the history that watches read."""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quarterdeck.titanium.kinds import Kind
from quarterdeck.titanium.status import already_exists, conflict, gone, not_found

Object = dict[str, Any]
Name = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide object is empty."""
HISTORY = 20_000


def timestamp(at: datetime | None = None) -> str:
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Happened:
    """One change of one object."""

    version: int
    type: str
    kind: Kind
    object: Object
    before: Object | None


class Store:
    """Everything in memory, in one event loop. Stored objects are never altered in place: a write replaces them."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str], dict[Name, Object]] = {}
        self._encoded: dict[int, tuple[Object, bytes]] = {}
        self._version = 100
        self._history: deque[Happened] = deque(maxlen=HISTORY)
        self._changed = asyncio.Event()
        self.listeners: list[Callable[[Happened], None]] = []

    @property
    def version(self) -> str:
        return str(self._version)

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.find(kind, namespace, name)
        if found is None:
            raise not_found(kind.plural, kind.group, name)
        return found

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects.get(kind.key, {}).get((namespace if kind.namespaced else "", name))

    def all(self, kind: Kind, namespace: str = "") -> list[Object]:
        """In the order of the real API: by namespace and name."""
        objects = self._objects.get(kind.key, {})
        names = sorted(key for key in objects if not namespace or key[0] == namespace)
        return [objects[key] for key in names]

    def each(self, kind: Kind) -> Iterable[Object]:
        return list(self._objects.get(kind.key, {}).values())

    def encoded(self, object: Object) -> bytes:
        """The object's JSON, made once for each version of it."""
        cached = self._encoded.get(id(object))
        if cached is not None and cached[0] is object:
            return cached[1]
        data = json.dumps(object, separators=(",", ":")).encode()
        self._encoded[id(object)] = (object, data)
        return data

    # Writing

    def create(self, kind: Kind, object: Object) -> Object:
        metadata = object["metadata"]
        name = (metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])
        if name in self._objects.get(kind.key, {}):
            raise already_exists(kind.plural, kind.group, metadata["name"])
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", timestamp())
        if "spec" in object and kind.kind not in ("Event",):
            metadata.setdefault("generation", 1)
        return self._put(kind, name, object, "ADDED")

    def replace(self, kind: Kind, object: Object) -> Object:
        """Write a new version of an existing object; a resourceVersion in it must be the current one."""
        metadata = object["metadata"]
        name = (metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])
        current = self._objects.get(kind.key, {}).get(name)
        if current is None:
            raise not_found(kind.plural, kind.group, metadata["name"])
        wanted = metadata.get("resourceVersion")
        if wanted and wanted != current["metadata"]["resourceVersion"]:
            raise conflict(kind.plural, kind.group, metadata["name"])
        for field in ("uid", "creationTimestamp"):
            metadata[field] = current["metadata"][field]
        if _same(current, object):
            return current
        if "generation" in current["metadata"]:
            bump = current.get("spec") != object.get("spec")
            if kind.kind == "Deployment":
                old, new = current["metadata"].get("annotations") or {}, metadata.get("annotations") or {}
                bump = bump or old != new
            metadata["generation"] = current["metadata"]["generation"] + int(bump)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and _graceless(object):
            return self.remove(kind, object)
        return self._put(kind, name, object, "MODIFIED")

    def change(self, kind: Kind, object: Object, alter: Callable[[Object], None]) -> Object | None:
        """For controllers: alter the newest version of an object, if it still is there."""
        metadata = object["metadata"]
        current = self.find(kind, metadata.get("namespace", ""), metadata["name"])
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            return None
        altered = copy.deepcopy(current)
        alter(altered)
        return self.replace(kind, altered)

    def remove(self, kind: Kind, object: Object) -> Object:
        metadata = object["metadata"]
        name = (metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])
        current = self._objects.get(kind.key, {}).pop(name, None)
        if current is None:
            raise not_found(kind.plural, kind.group, metadata["name"])
        self._encoded.pop(id(current), None)
        last = copy.deepcopy(current)
        self._version += 1
        last["metadata"]["resourceVersion"] = self.version
        self._happened(Happened(self._version, "DELETED", kind, last, current))
        return last

    def load(self, kind: Kind, objects: Iterable[Object]) -> None:
        """Put many finished objects in place; nobody is told, no controller runs on them."""
        place = self._objects.setdefault(kind.key, {})
        for object in objects:
            self._version += 1
            metadata = object["metadata"]
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", timestamp())
            metadata["resourceVersion"] = self.version
            place[(metadata.get("namespace", ""), metadata["name"])] = object

    def _put(self, kind: Kind, name: Name, object: Object, type: str) -> Object:
        self._version += 1
        object["metadata"]["resourceVersion"] = self.version
        place = self._objects.setdefault(kind.key, {})
        before = place.get(name)
        if before is not None:
            self._encoded.pop(id(before), None)
        place[name] = object
        self._happened(Happened(self._version, type, kind, object, before))
        return object

    def _happened(self, happened: Happened) -> None:
        self._history.append(happened)
        for listener in self.listeners:
            listener(happened)
        self._changed.set()
        self._changed = asyncio.Event()

    # Watching

    def since(self, version: int) -> list[Happened]:
        """What happened after a version. Raises 410 when that is further back than the history reaches."""
        if self._history and version < self._history[0].version - 1 and version < self._version:
            oldest = self._history[0].version
            if len(self._history) == HISTORY:
                raise gone(f"too old resource version: {version} ({oldest})")
        newer: list[Happened] = []
        for happened in reversed(self._history):
            if happened.version <= version:
                break
            newer.append(happened)
        newer.reverse()
        return newer

    async def wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            pass


def _same(old: Object, new: Object) -> bool:
    def bare(object: Object) -> Object:
        metadata = {k: v for k, v in object["metadata"].items() if k not in ("managedFields", "resourceVersion")}
        owners = [{k: v for k, v in e.items() if k != "time"} for e in object["metadata"].get("managedFields") or []]
        return {**object, "metadata": {**metadata, "managedFields": owners}}

    return bare(old) == bare(new)


def _graceless(object: Object) -> bool:
    return not object["metadata"].get("deletionGracePeriodSeconds")
