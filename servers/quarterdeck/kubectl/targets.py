"""The objects that changes are about: what a grant is bound to, and a write that fails if it is not that any more."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable

from quarterdeck.keel.changes import Target
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import resources
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Object
from quarterdeck.kubectl.resources import Resource

MANAGER = "quarterdeck"
TRIES = 5
MOVES_BY_ITSELF = ("managedFields", "resourceVersion", "generation")


def fingerprint(object: Object | None) -> str:
    """A hash over what a grant is bound to: all of the object but its status and the versions that status moves."""
    if object is None:
        return "absent"
    metadata = {key: value for key, value in object["metadata"].items() if key not in MOVES_BY_ITSELF}
    bound = {**{key: value for key, value in object.items() if key != "status"}, "metadata": metadata}
    return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()


def target(cluster: Cluster, resource: Resource, namespace: str, name: str, object: Object | None) -> Target:
    metadata = object["metadata"] if object else {}
    return Target(
        kind=resource.kind,
        name=name,
        namespace=namespace if resource.namespaced else "",
        context=cluster.name,
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        fingerprint=fingerprint(object),
    )


class Patched:
    """One object, and the patch that is to be laid over it."""

    def __init__(self, cluster: Cluster, resource: Resource, namespace: str, name: str) -> None:
        self.cluster, self.resource, self.namespace, self.name = cluster, resource, namespace, name
        self.live = resources.read(cluster, resource, namespace, name)
        self.target = target(cluster, resource, namespace, name, self.live)

    def try_out(self, patch: Object, kind: str) -> Object:
        """What the object would be: the API server's own dry run, with admission and validation."""
        path = self.resource.path(self.namespace, self.name)
        return self.cluster.send("PATCH", path, patch, kind, {"dryRun": "All", "fieldManager": MANAGER})

    def write(self, patch: Callable[[Object], Object], kind: str) -> Object:
        """Write under the resourceVersion of a read that still is what was shown; status noise is waited out."""
        path = self.resource.path(self.namespace, self.name)
        for _ in range(TRIES):
            live = unchanged(self.cluster, path, self.target)
            body = copy.deepcopy(patch(live))
            body.setdefault("metadata", {})["resourceVersion"] = live["metadata"]["resourceVersion"]
            try:
                return self.cluster.send("PATCH", path, body, kind, {"fieldManager": MANAGER})
            except ApiRefusal as error:
                if error.code != 409:
                    raise
        raise Refusal(
            f"{self.target} kept changing while it was written; nothing was changed. Ask for the change anew."
        )


def unchanged(cluster: Cluster, path: str, shown: Target) -> Object:
    try:
        live: Object = cluster.get(path)
    except ApiRefusal as error:
        if error.code == 404:
            raise Refusal(f"{shown} is gone since it was shown; nothing was changed.") from None
        raise
    if live["metadata"].get("uid") != shown.uid or fingerprint(live) != shown.fingerprint:
        raise Refusal(
            f"{shown} was changed by somebody else since it was shown; nothing was changed. Ask for the change anew."
        )
    return live
