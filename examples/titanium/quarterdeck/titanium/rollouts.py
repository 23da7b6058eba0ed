"""The deployment controller: replica sets, rolling updates, revisions, and what a deployment says of itself."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Any

from quarterdeck.titanium.events import Recorder
from quarterdeck.titanium.kinds import Kind
from quarterdeck.titanium.store import Store, timestamp

Object = dict[str, Any]
REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
COPIED_NOT = frozenset({"kubectl.kubernetes.io/last-applied-configuration", REVISION})


def template_of(replica_set: Object) -> Object:
    template: Object = copy.deepcopy(replica_set["spec"]["template"])
    template.get("metadata", {}).get("labels", {}).pop(HASH, None)
    return template


def _bare(template: Object) -> Object:
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if k != "creationTimestamp" and v}
    return {**template, "metadata": metadata}


def same_template(one: Object, other: Object) -> bool:
    return _bare(one) == _bare(other)


def template_hash(template: Object) -> str:
    digest = hashlib.sha256(json.dumps(_bare(template), sort_keys=True).encode()).hexdigest()
    return "".join("bcdf456789ghjklm"[int(letter, 16)] for letter in digest[:10])


def share(value: Any, replicas: int, up: bool) -> int:
    """maxSurge and maxUnavailable: a number or a percentage."""
    if isinstance(value, str) and value.endswith("%"):
        part = replicas * int(value[:-1]) / 100
        return math.ceil(part) if up else math.floor(part)
    return int(value)


def revision_of(object: Object) -> int:
    text = (object["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if str(text).isdigit() else 0


class Deployments:
    def __init__(self, store: Store, kind: Kind, replica_sets: Kind, record: Recorder, speed: float) -> None:
        self._store, self._kind, self._sets, self._record = store, kind, replica_sets, record
        self._speed = speed
        self._signatures: dict[str, str] = {}
        """What each rollout looked like when it last moved; it is stuck when that stays the same too long."""

    def reconcile(self, deployment: Object, owned: list[Object]) -> None:
        if deployment["metadata"].get("deletionTimestamp"):
            return
        spec = deployment["spec"]
        current = next((rs for rs in owned if same_template(template_of(rs), spec["template"])), None)
        paused = bool(spec.get("paused"))
        if current is None and not paused:
            current = self._new_set(deployment, owned)
            owned = [*owned, current]
        elif current is not None and not paused:
            current = self._refresh_revision(deployment, current, owned)
            owned = [current if rs["metadata"]["uid"] == current["metadata"]["uid"] else rs for rs in owned]
        if current is not None:
            self._adopt_revision(deployment, current)
        others = [rs for rs in owned if current is None or rs["metadata"]["uid"] != current["metadata"]["uid"]]
        if paused:
            self._scale_paused(deployment, owned)
        elif current is not None:
            if spec["strategy"]["type"] == "Recreate":
                self._recreate(deployment, current, others)
            else:
                self._roll(deployment, current, others)
            self._clean_up(deployment, others)
        self._report(deployment, current, owned)

    def _new_set(self, deployment: Object, owned: list[Object]) -> Object:
        spec, metadata = deployment["spec"], deployment["metadata"]
        digest = template_hash(spec["template"])
        template = copy.deepcopy(spec["template"])
        labels = {**(template["metadata"].get("labels") or {}), HASH: digest}
        template["metadata"]["labels"] = labels
        selector = copy.deepcopy(spec["selector"])
        selector.setdefault("matchLabels", {})[HASH] = digest
        annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in COPIED_NOT}
        revision = max([revision_of(rs) for rs in owned], default=0) + 1
        name = f"{metadata['name']}-{digest}"
        existing = self._store.find(self._sets, metadata["namespace"], name)
        if existing is not None:
            name += f"-{revision}"
        return self._store.create(
            self._sets,
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": name,
                    "namespace": metadata["namespace"],
                    "labels": labels,
                    "annotations": {
                        **annotations,
                        REVISION: str(revision),
                        "deployment.kubernetes.io/desired-replicas": str(spec["replicas"]),
                    },
                    "ownerReferences": [
                        {
                            "apiVersion": "apps/v1",
                            "kind": "Deployment",
                            "name": metadata["name"],
                            "uid": metadata["uid"],
                            "controller": True,
                            "blockOwnerDeletion": True,
                        }
                    ],
                },
                "spec": {"replicas": 0, "selector": selector, "template": template},
                "status": {"replicas": 0, "observedGeneration": 1},
            },
        )

    def _refresh_revision(self, deployment: Object, current: Object, owned: list[Object]) -> Object:
        newest = max(revision_of(rs) for rs in owned)
        wanted = {k: v for k, v in (deployment["metadata"].get("annotations") or {}).items() if k not in COPIED_NOT}
        have = current["metadata"].get("annotations") or {}
        if revision_of(current) == newest and all(have.get(k) == v for k, v in wanted.items()):
            return current
        revision = newest if revision_of(current) == newest else newest + 1

        def alter(rs: Object) -> None:
            rs["metadata"].setdefault("annotations", {}).update(wanted, **{REVISION: str(revision)})

        return self._store.change(self._sets, current, alter) or current

    def _adopt_revision(self, deployment: Object, current: Object) -> None:
        if revision_of(deployment) != revision_of(current):

            def alter(d: Object) -> None:
                d["metadata"].setdefault("annotations", {})[REVISION] = str(revision_of(current))

            self._store.change(self._kind, deployment, alter)

    def _scale(self, deployment: Object, rs: Object, to: int) -> None:
        before = rs["spec"]["replicas"]
        if before == to:
            return
        self._store.change(self._sets, rs, lambda r: r["spec"].update(replicas=to))
        word = "up" if to > before else "down"
        message = f"Scaled {word} replica set {rs['metadata']['name']} from {before} to {to}"
        self._record(deployment, "Normal", "ScalingReplicaSet", message, "deployment-controller")

    def _scale_paused(self, deployment: Object, owned: list[Object]) -> None:
        active = [rs for rs in owned if rs["spec"]["replicas"] > 0]
        if len(active) == 1:
            self._scale(deployment, active[0], deployment["spec"]["replicas"])

    def _recreate(self, deployment: Object, current: Object, others: list[Object]) -> None:
        for rs in others:
            self._scale(deployment, rs, 0)
        if all(rs.get("status", {}).get("replicas", 0) == 0 for rs in others):
            self._scale(deployment, current, deployment["spec"]["replicas"])

    def _roll(self, deployment: Object, current: Object, others: list[Object]) -> None:
        wanted = deployment["spec"]["replicas"]
        rolling = deployment["spec"]["strategy"]["rollingUpdate"]
        surge = share(rolling["maxSurge"], wanted, up=True)
        unavailable = share(rolling["maxUnavailable"], wanted, up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1
        total = current["spec"]["replicas"] + sum(rs["spec"]["replicas"] for rs in others)
        if current["spec"]["replicas"] > wanted:
            self._scale(deployment, current, wanted)
            return
        if not any(rs["spec"]["replicas"] for rs in others):
            self._scale(deployment, current, wanted)
            return
        room = wanted + surge - total
        if room > 0 and current["spec"]["replicas"] < wanted:
            self._scale(deployment, current, min(wanted, current["spec"]["replicas"] + room))
            return
        self._shrink_old(deployment, current, others, wanted, unavailable)

    def _shrink_old(
        self, deployment: Object, current: Object, others: list[Object], wanted: int, unavailable: int
    ) -> None:
        new_unavailable = current["spec"]["replicas"] - current.get("status", {}).get("availableReplicas", 0)
        total = current["spec"]["replicas"] + sum(rs["spec"]["replicas"] for rs in others)
        spare = total - (wanted - unavailable) - new_unavailable
        for rs in sorted(others, key=lambda rs: rs["metadata"]["creationTimestamp"]):
            if spare <= 0:
                return
            have, available = rs["spec"]["replicas"], rs.get("status", {}).get("availableReplicas", 0)
            sick = min(have - available, spare)
            if sick > 0:
                self._scale(deployment, rs, have - sick)
                spare -= sick
        available = sum(rs.get("status", {}).get("availableReplicas", 0) for rs in [current, *others])
        spare = available - (wanted - unavailable)
        for rs in sorted(others, key=lambda rs: rs["metadata"]["creationTimestamp"]):
            fresh = self._store.find(self._sets, rs["metadata"]["namespace"], rs["metadata"]["name"]) or rs
            take = min(fresh["spec"]["replicas"], spare)
            if take > 0:
                self._scale(deployment, fresh, fresh["spec"]["replicas"] - take)
                spare -= take

    def _clean_up(self, deployment: Object, others: list[Object]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        idle = [rs for rs in others if rs["spec"]["replicas"] == 0 and not rs.get("status", {}).get("replicas")]
        for rs in sorted(idle, key=revision_of)[: max(0, len(idle) - limit)]:
            self._store.remove(self._sets, rs)

    # What it says of itself

    def _report(self, deployment: Object, current: Object | None, owned: list[Object]) -> None:
        fresh = self._store.find(self._kind, deployment["metadata"]["namespace"], deployment["metadata"]["name"])
        if fresh is None:
            return
        sets = [self._store.find(self._sets, rs["metadata"]["namespace"], rs["metadata"]["name"]) or rs for rs in owned]
        wanted = fresh["spec"]["replicas"]

        def total(field: str, of: list[Object]) -> int:
            return sum(rs.get("status", {}).get(field, 0) for rs in of)

        newest = [rs for rs in sets if current and rs["metadata"]["uid"] == current["metadata"]["uid"]]
        figures = {
            "replicas": total("replicas", sets),
            "updatedReplicas": total("replicas", newest),
            "readyReplicas": total("readyReplicas", sets),
            "availableReplicas": total("availableReplicas", sets),
        }
        figures["unavailableReplicas"] = max(0, max(wanted, figures["replicas"]) - figures["availableReplicas"])
        status = {
            "observedGeneration": fresh["metadata"]["generation"],
            **{name: value for name, value in figures.items() if value},
            "conditions": self._conditions(fresh, figures, newest[0] if newest else None, wanted),
        }
        if fresh.get("status") != status:
            self._store.change(self._kind, fresh, lambda d: d.update(status=status))

    def _conditions(self, deployment: Object, figures: Object, newest: Object | None, wanted: int) -> list[Object]:
        old = {c["type"]: c for c in deployment.get("status", {}).get("conditions") or []}
        spec = deployment["spec"]
        floor = 0
        if spec["strategy"]["type"] == "RollingUpdate":
            floor = share(spec["strategy"]["rollingUpdate"]["maxUnavailable"], wanted, up=False)
        enough = figures["availableReplicas"] >= wanted - floor
        words = "has" if enough else "does not have"
        available = _condition(
            old,
            "Available",
            enough,
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"Deployment {words} minimum availability.",
        )
        return [available, self._progressing(deployment, figures, newest, wanted, old)]

    def _progressing(
        self, deployment: Object, figures: Object, newest: Object | None, wanted: int, old: dict[str, Object]
    ) -> Object:
        before = old.get("Progressing")
        if newest is None or deployment["spec"].get("paused"):
            if deployment["spec"].get("paused"):
                return _condition(old, "Progressing", None, "DeploymentPaused", "Deployment is paused")
            return before or _condition(old, "Progressing", True, "ReplicaSetUpdated", "ReplicaSet is progressing.")
        name = newest["metadata"]["name"]
        complete = (
            figures["updatedReplicas"] == wanted
            and figures["replicas"] == wanted
            and figures["availableReplicas"] == wanted
        )
        if complete:
            message = f'ReplicaSet "{name}" has successfully progressed.'
            return _condition(old, "Progressing", True, "NewReplicaSetAvailable", message)
        signature = f"{name}:{figures['updatedReplicas']}:{figures['availableReplicas']}:{figures['replicas']}"
        moved = self._signatures.get(deployment["metadata"]["uid"]) != signature
        self._signatures[deployment["metadata"]["uid"]] = signature
        if moved or before is None or before["reason"] == "NewReplicaSetAvailable":
            found = _condition(old, "Progressing", True, "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
            found["lastUpdateTime"] = timestamp()
            return found
        age = (datetime.now(UTC) - datetime.fromisoformat(before["lastUpdateTime"])).total_seconds()
        if before["reason"] != "ProgressDeadlineExceeded" and age * self._speed > deployment["spec"].get(
            "progressDeadlineSeconds", 600
        ):
            message = f'ReplicaSet "{name}" has timed out progressing.'
            return _condition(old, "Progressing", False, "ProgressDeadlineExceeded", message)
        return before


def _condition(old: dict[str, Object], type: str, true: bool | None, reason: str, message: str) -> Object:
    status = "Unknown" if true is None else "True" if true else "False"
    before = old.get(type)
    if before and (before["status"], before["reason"], before["message"]) == (status, reason, message):
        return before
    moved = before is None or before["status"] != status
    return {
        "type": type,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": timestamp(),
        "lastTransitionTime": timestamp() if moved or before is None else before["lastTransitionTime"],
    }
