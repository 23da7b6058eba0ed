"""Event objects as the cluster's parts write them: the same happening again only counts up."""

from __future__ import annotations

from typing import Any

from quarterdeck.titanium.defaults import random_suffix
from quarterdeck.titanium.kinds import Kinds
from quarterdeck.titanium.store import Store, timestamp

Object = dict[str, Any]
MOST = 2_000


class Recorder:
    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        kind = kinds.named("Event")
        assert kind is not None
        self._kind = kind
        self._seen: dict[tuple[str, str, str], tuple[str, str]] = {}

    def __call__(
        self, about: Object, type: str, reason: str, message: str, component: str, host: str = "", field: str = ""
    ) -> None:
        metadata = about["metadata"]
        key = (metadata["uid"], reason, message)
        namespace = metadata.get("namespace") or "default"
        now = timestamp()
        seen = self._seen.get(key)
        if seen is not None and (event := self._store.find(self._kind, *seen)) is not None:
            count = event["count"] + 1
            self._store.change(self._kind, event, lambda e: e.update(count=count, lastTimestamp=now))
            return
        self._forget()
        name = f"{metadata['name']}.{random_suffix(16)}"
        self._seen[key] = (namespace, name)
        self._store.create(
            self._kind,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": {
                    "kind": about["kind"],
                    "namespace": metadata.get("namespace", ""),
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "apiVersion": about["apiVersion"],
                    "resourceVersion": metadata["resourceVersion"],
                    **({"fieldPath": field} if field else {}),
                },
                "reason": reason,
                "message": message,
                "source": {"component": component, **({"host": host} if host else {})},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
                "type": type,
                "eventTime": None,
                "reportingComponent": component,
                "reportingInstance": host,
            },
        )

    def _forget(self) -> None:
        """The oldest go when there are too many, as they do after an hour on a real cluster."""
        while len(self._seen) > MOST:
            key = next(iter(self._seen))
            event = self._store.find(self._kind, *self._seen.pop(key))
            if event is not None:
                self._store.remove(self._kind, event)
