"""The change that a manifest asks for: server-side apply of each of its objects, tried out and shown first."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Callable

from quarterdeck.keel.answers import clip
from quarterdeck.keel.changes import Change, Plan, Report, Seen
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import diffs, documents, plans, resources
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Object
from quarterdeck.kubectl.resources import Resource
from quarterdeck.kubectl.targets import MANAGER, MOVES_BY_ITSELF, TRIES, fingerprint, target, unchanged

APPLY = "application/apply-patch+yaml"
MOST_SHOWN = 100_000
LATER = "(set when it is created)"


def apply(
    cluster: Cluster, namespace: str, text: str, force: bool, verify_s: float, allow: Callable[[str], str]
) -> Plan:
    """`allow` refuses namespaces that settings forbid."""
    tried = [_Tried(cluster, namespace, object, force, allow) for object in documents.read(text)]
    changed = [one for one in tried if one.differs]
    if not changed:
        raise Refusal("The manifest describes what is there already. Nothing to change.")
    after = "\n".join(f"--- {one}\n{one.diff}" for one in changed)
    if len(after) > MOST_SHOWN:
        raise Refusal(
            f"What this manifest changes fills {len(after)} characters, more than a person can read and answer for "
            f"({MOST_SHOWN}). Apply it in parts."
        )
    change = Change(
        server="kubectl",
        tool="apply_manifest",
        summary=f"Apply {len(changed)} object{'s' if len(changed) > 1 else ''}: {clip(_names(changed), 300)}",
        targets=tuple(one.target for one in changed),
        before="\n".join(f"{one}: {'exists' if one.live else 'does not exist'}" for one in changed),
        after=after,
        undo="\n".join(one.undo for one in changed),
        exact=json.dumps([force, [one.wanted for one in changed]], sort_keys=True),
        warnings=("takes over fields that others manage (force)",) if force else (),
    )

    def write() -> str:
        for number, one in enumerate(changed):
            try:
                one.write(force)
            except Refusal as error:
                if number == 0:
                    raise
                raise Refusal(f"Applied {_names(changed[:number])}; then {one} failed: {error}") from None
        return f"Applied {_names(changed)}."

    async def verify(report: Report) -> Seen:
        deadline = time.monotonic() + verify_s
        seen = []
        for one in changed:
            if one.resource == resources.DEPLOYMENT:
                left = max(1.0, deadline - time.monotonic())
                one_seen = await plans.watched(cluster, one.namespace, one.name, left)(report)
                seen.append(Seen(one_seen.healthy, f"{one.name}: {one_seen.text}"))
        if not seen:
            return Seen(True, "The API server holds what was applied.")
        return Seen(all(one.healthy for one in seen), " ".join(one.text for one in seen))

    return Plan(change, lambda: asyncio.to_thread(write), verify)


def _names(objects: list[_Tried]) -> str:
    return ", ".join(f"{one.resource.kind} {one.name}" for one in objects)


class _Tried:
    """One object of the manifest, and what the API server's dry run makes of it."""

    def __init__(
        self, cluster: Cluster, namespace: str, wanted: Object, force: bool, allow: Callable[[str], str]
    ) -> None:
        self.cluster = cluster
        self.resource: Resource = resources.by_kind(cluster, wanted["apiVersion"], wanted["kind"])
        self.namespace, self.wanted = "", wanted
        if self.resource.namespaced:
            self.namespace = allow(str(wanted["metadata"].get("namespace") or namespace))
            wanted["metadata"]["namespace"] = self.namespace
        resources.shown(wanted)  # a Secret's values are remembered as secret from here on
        self.name: str = wanted["metadata"]["name"]
        self._path = self.resource.path(self.namespace, self.name)
        self.live = self._live()
        self.target = target(cluster, self.resource, self.namespace, self.name, self.live)
        # What differs between two dry runs is made up by the server each time, such as a new object's uid: it must
        # not make the same request look like another one.
        result = _settled(self._dry_run(force), self._dry_run(force))
        self.differs = fingerprint(result) != fingerprint(self.live)
        self.diff = diffs.diff(_bare(self.live), _bare(result)) if self.differs else ""
        self.undo = self._undo()

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.name}" + (f" in {self.namespace}" if self.namespace else "")

    def write(self, force: bool) -> None:
        body = copy.deepcopy(self.wanted)
        for _ in range(TRIES):
            if self.live is not None:
                live = unchanged(self.cluster, self._path, self.target)
                body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            elif self._live() is not None:
                raise Refusal(f"{self.target} was created by somebody else meanwhile. Ask for the change anew.")
            try:
                self._send(body, force, dry=False)
                return
            except ApiRefusal as error:
                if error.code != 409:
                    raise
        raise Refusal(f"{self.target} kept changing while it was written; it was not changed. Ask for it anew.")

    def _live(self) -> Object | None:
        try:
            return self.cluster.get(self._path)
        except ApiRefusal as error:
            if error.code != 404:
                raise
            return None

    def _dry_run(self, force: bool) -> Object:
        try:
            return self._send(self.wanted, force, dry=True)
        except ApiRefusal as error:
            if error.code == 404 and self.namespace:
                resources.check_namespace(self.cluster, self.namespace)
            raise

    def _send(self, body: Object, force: bool, *, dry: bool) -> Object:
        query = {"fieldManager": MANAGER, "force": str(force).lower(), "dryRun": "All" if dry else None}
        try:
            return self.cluster.send("PATCH", self._path, json.dumps(body), APPLY, query)
        except ApiRefusal as error:
            taken = [c for c in error.causes if c.get("reason") == "FieldManagerConflict"]
            if error.code != 409 or not taken or force:
                raise
            if all(f'conflict with "{MANAGER}"' in str(cause.get("message")) for cause in taken):
                return self._send(body, True, dry=dry)  # only our own earlier changes stand in the way
            fields = "; ".join(f"{c.get('field')} ({c.get('message')})" for c in taken[:8])
            more = f" and {len(taken) - 8} more" if len(taken) > 8 else ""
            raise Refusal(
                f"Others manage fields of {self}: {fields}{more}. Leave those fields out, or set force=true to take "
                "them over."
            ) from None

    def _undo(self) -> str:
        if self.live:
            return f"{self}: apply_manifest with what stands behind '-' above"
        group = self.resource.group_version.rpartition("/")[0]
        kind = self.resource.plural + (f".{group}" if group else "")
        return f"kubectl delete {kind} {self.name}" + (f" -n {self.namespace}" if self.namespace else "")


def _bare(object: Object | None) -> Object | None:
    """Without status and bookkeeping, which a diff is not about."""
    if object is None:
        return None
    left_out = (*MOVES_BY_ITSELF, "uid", "creationTimestamp")
    metadata = {key: value for key, value in object["metadata"].items() if key not in left_out}
    return {key: value for key, value in object.items() if key != "status"} | {"metadata": metadata}


def _settled(one: object, other: object) -> Object:
    """The first, with what differs in the second marked as not yet known."""

    def walk(a: object, b: object) -> object:
        if isinstance(a, dict) and isinstance(b, dict):
            return {key: walk(value, b[key]) if key in b else LATER for key, value in a.items()}
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            return [walk(x, y) for x, y in zip(a, b, strict=True)]
        return a if a == b else LATER

    found = walk(one, other)
    assert isinstance(found, dict)
    return found
