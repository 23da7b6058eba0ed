"""The changes this server makes: planned by a server-side dry run, applied only to the object that was shown."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import yaml

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.changes import Change, Plan, Report, Seen, Target
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import pods, problems, resources, rollouts
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Object, path_of
from quarterdeck.kubectl.resources import Resource
from quarterdeck.kubectl.words import dig

RESTARTED = "kubectl.kubernetes.io/restartedAt"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
MANAGER = "quarterdeck"
TRIES = 5
_MANAGERS = re.compile(r'conflicts? with "([^"]+)"')
MOST_OBJECTS = 20
MOST_CHARACTERS = 200_000
MOST_REPLICAS = 2**31 - 1
_MOVES_BY_ITSELF = ("managedFields", "resourceVersion", "generation")


def fingerprint(object: Object | None) -> str:
    """A hash over what a grant is bound to: all of the object but its status and the versions that status moves."""
    if object is None:
        return "absent"
    metadata = {key: value for key, value in object["metadata"].items() if key not in _MOVES_BY_ITSELF}
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
            live = _unchanged(self.cluster, path, self.target)
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


def _unchanged(cluster: Cluster, path: str, shown: Target) -> Object:
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


# Deployments


def restart(cluster: Cluster, namespace: str, name: str, verify_s: float) -> Plan:
    patched = Patched(cluster, resources.DEPLOYMENT, namespace, name)
    if dig(patched.live, "spec", "paused"):
        raise Refusal(f"Deployment {name} is paused, so a restart would do nothing. Resume it first (apply_manifest).")

    def patch(_: Object | None = None) -> Object:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}

    patched.try_out(patch(), STRATEGIC)
    replicas = dig(patched.live, "spec", "replicas") or 0
    before = dig(patched.live, "spec", "template", "metadata", "annotations", RESTARTED) or "never restarted this way"
    change = Change(
        server="kubectl",
        tool="restart_deployment",
        summary=f"Restart deployment {name}: replace its {replicas} pods one after another, same template",
        targets=(patched.target,),
        before=f"{RESTARTED}: {before}",
        after=f"{RESTARTED}: the time of the restart; image, replicas and all else stay",
        undo="A restart needs no undo: the same template runs again.",
        exact=f"restart {patched.target.uid}",
        warnings=_state(patched.live),
    )
    return Plan(
        change, _writing(patched, patch, STRATEGIC, f"Restarted {name}."), _rollout(cluster, namespace, name, verify_s)
    )


def scale(cluster: Cluster, namespace: str, name: str, replicas: int, most: int, verify_s: float) -> Plan:
    if replicas < 0:
        raise Refusal(f"{replicas} replicas make no sense. Give 0 or more.")
    if replicas > most:
        raise Refusal(f"{replicas} replicas are more than the {most} allowed here (QUARTERDECK_KUBECTL_MAX_REPLICAS).")
    patched = Patched(cluster, resources.DEPLOYMENT, namespace, name)
    before = dig(patched.live, "spec", "replicas") or 0
    if before == replicas:
        raise Refusal(f"Deployment {name} already has {replicas} replicas. Nothing to change.")
    patch = {"spec": {"replicas": replicas}}
    patched.try_out(patch, MERGE)
    warnings = list(_state(patched.live))
    warnings += [
        f"HorizontalPodAutoscaler {owner} sets its replicas and may undo this"
        for owner in _scalers(cluster, namespace, name)
    ]
    if replicas == 0:
        warnings.append("with 0 replicas the service is down")
    change = Change(
        server="kubectl",
        tool="scale_deployment",
        summary=f"Scale deployment {name} from {before} to {replicas} replicas",
        targets=(patched.target,),
        before=f"replicas: {before}",
        after=f"replicas: {replicas}",
        undo=f"scale_deployment(deployment={name}, replicas={before}, namespace={namespace})",
        exact=f"scale {patched.target.uid} {replicas}",
        warnings=tuple(warnings),
    )
    done = f"Scaled {name} from {before} to {replicas}."
    return Plan(change, _writing(patched, lambda _: patch, MERGE, done), _rollout(cluster, namespace, name, verify_s))


def rollback(cluster: Cluster, namespace: str, name: str, revision: int | None, verify_s: float) -> Plan:
    patched = Patched(cluster, resources.DEPLOYMENT, namespace, name)
    if dig(patched.live, "spec", "paused"):
        raise Refusal(f"Deployment {name} is paused and cannot be rolled back. Resume it first.")
    sets = rollouts.replica_sets(cluster, namespace, patched.live)
    current = rollouts.revision(patched.live)
    older = [rs for rs in sets if rollouts.revision(rs) != current]
    chosen = next((rs for rs in older if revision in (None, 0, rollouts.revision(rs))), None)
    if chosen is None:
        known = ", ".join(str(rollouts.revision(rs)) for rs in older) or "none"
        asked = f"revision {revision}" if revision else "an earlier revision"
        raise Refusal(f"Deployment {name} has no {asked} to go back to. Earlier revisions: {known} (now: {current}).")
    template = rollouts.template(chosen)
    if template == rollouts.template(patched.live):
        raise Refusal(f"Revision {rollouts.revision(chosen)} is what runs already. Nothing to change.")

    def patch(live: Object) -> Object:
        # The whole template is replaced, as kubectl does; `$patch: replace` keeps fields of today from lingering.
        return {"spec": {"template": {"$patch": "replace", **template}}}

    patched.try_out(patch(patched.live), STRATEGIC)
    to = rollouts.revision(chosen)
    change = Change(
        server="kubectl",
        tool="rollback_deployment",
        summary=f"Roll deployment {name} back from revision {current} to revision {to}",
        targets=(patched.target,),
        before=f"revision {current}",
        after=f"revision {to}; in the pod template:\n{rollouts.diff(rollouts.template(patched.live), template)}",
        undo=f"rollback_deployment(deployment={name}, revision={current}, namespace={namespace})",
        exact=json.dumps(template, sort_keys=True),
        warnings=_state(patched.live),
    )
    done = f"Rolled {name} back to the template of revision {to}."
    return Plan(change, _writing(patched, patch, STRATEGIC, done), _rollout(cluster, namespace, name, verify_s))


def _state(deployment: Object) -> tuple[str, ...]:
    state, summary = rollouts.judge(deployment)
    return () if state == "complete" else (f"right now: {state}. {summary}",)


def _scalers(cluster: Cluster, namespace: str, name: str) -> list[str]:
    try:
        listed = cluster.get(path_of("autoscaling/v1", "horizontalpodautoscalers", namespace)).get("items") or []
    except ApiRefusal:
        try:
            listed = cluster.get(path_of("autoscaling/v2", "horizontalpodautoscalers", namespace)).get("items") or []
        except ApiRefusal:
            return []
    return [
        scaler["metadata"]["name"]
        for scaler in listed
        if (dig(scaler, "spec", "scaleTargetRef", "kind"), dig(scaler, "spec", "scaleTargetRef", "name"))
        == ("Deployment", name)
    ]


def _writing(patched: Patched, patch: Callable[[Object], Object], kind: str, done: str) -> Callable[[], Awaitable[str]]:
    async def apply() -> str:
        await asyncio.to_thread(patched.write, patch, kind)
        return done

    return apply


def _rollout(cluster: Cluster, namespace: str, name: str, seconds: float) -> Callable[[Report], Awaitable[Seen]]:
    async def verify(report: Report) -> Seen:
        loop = asyncio.get_running_loop()

        def say(fraction: float, text: str) -> None:
            asyncio.run_coroutine_threadsafe(_reported(report, fraction, text), loop)

        healthy, text = await asyncio.to_thread(rollouts.wait, cluster, namespace, name, seconds, say)
        return Seen(healthy, text)

    return verify


async def _reported(report: Report, fraction: float, text: str) -> None:
    await report(fraction, text)


# Pods


def delete_pod(cluster: Cluster, namespace: str, name: str, verify_s: float) -> Plan:
    pod = resources.read(cluster, resources.POD, namespace, name)
    shown = target(cluster, resources.POD, namespace, name, pod)
    path = resources.POD.path(namespace, name)
    cluster.send("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]})
    owner = problems.owner_of(pod)
    lone = owner.startswith("Pod ")
    change = Change(
        server="kubectl",
        tool="delete_pod",
        summary=f"Delete pod {name}" + ("; nothing will bring it back" if lone else f"; its {owner} makes a new one"),
        targets=(shown,),
        before="the pod exists",
        after="the pod is gone" if lone else f"the pod is gone, {owner} starts another",
        undo="none: a pod without an owner must be created again from its manifest" if lone else "not needed",
        exact=f"delete {shown.uid}",
        warnings=(f"right now: {pods.summary(pod)}", *(["it has no owner: it will be gone for good"] if lone else [])),
    )

    def write() -> str:
        live = _unchanged(cluster, path, shown)
        conditions = {"uid": live["metadata"]["uid"]}
        cluster.send("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions})
        return f"Deleted pod {name}."

    async def verify(report: Report) -> Seen:
        return await asyncio.to_thread(_gone, cluster, namespace, pod, owner, verify_s)

    return Plan(change, lambda: asyncio.to_thread(write), verify)


def _gone(cluster: Cluster, namespace: str, pod: Object, owner: str, seconds: float) -> Seen:
    import time

    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            live = cluster.get(resources.POD.path(namespace, name))
            if live["metadata"]["uid"] != uid:
                break
        except ApiRefusal as error:
            if error.code == 404:
                break
            raise
        time.sleep(0.5)
    else:
        return Seen(False, f"Pod {name} is still ending after {seconds:.0f} s. describe_pod says more.")
    if owner.startswith("Deployment "):
        deployment = owner.removeprefix("Deployment ")
        healthy, text = rollouts.wait(
            cluster, namespace, deployment, max(1.0, deadline - time.monotonic()), lambda *_: None
        )
        return Seen(healthy, f"The pod is gone. {owner}: {text}")
    return Seen(True, "The pod is gone.")


# Nodes


def cordon(cluster: Cluster, name: str, uncordon: bool) -> Plan:
    patched = Patched(cluster, resources.NODE, "", name)
    closed = bool(dig(patched.live, "spec", "unschedulable"))
    if closed is not uncordon:
        raise Refusal(f"Node {name} is already {'open to' if uncordon else 'closed for'} new pods. Nothing to change.")
    patch: Object = {"spec": {"unschedulable": None if uncordon else True}}
    patched.try_out(patch, MERGE)
    word = "Uncordon" if uncordon else "Cordon"
    change = Change(
        server="kubectl",
        tool="cordon_node",
        summary=f"{word} node {name}: "
        + ("it takes new pods again" if uncordon else "it takes no new pods; those on it stay"),
        targets=(patched.target,),
        before=f"unschedulable: {str(closed).lower()}",
        after=f"unschedulable: {str(not uncordon).lower()}",
        undo=f"cordon_node(node={name}, uncordon={str(not uncordon).lower()})",
        exact=f"cordon {patched.target.uid} {not uncordon}",
    )

    async def verify(_: Report) -> Seen:
        live = await asyncio.to_thread(resources.read, cluster, resources.NODE, "", name)
        closed_now = bool(dig(live, "spec", "unschedulable"))
        return Seen(closed_now is not uncordon, f"unschedulable is now {str(closed_now).lower()}.")

    return Plan(change, _writing(patched, lambda _: patch, MERGE, f"{word}ed node {name}."), verify)


# Manifests


def manifest(
    cluster: Cluster, namespace: str, text: str, force: bool, verify_s: float, allow: Callable[[str], str]
) -> Plan:
    """Server-side apply of every document, each tried out first. `allow` refuses namespaces that settings forbid."""
    wanted = _documents(text)
    tried = [_try(cluster, namespace, object, force, allow) for object in wanted]
    changed = [one for one in tried if one.differs]
    if not changed:
        raise Refusal("The manifest describes what is there already. Nothing to change.")
    names = ", ".join(f"{one.resource.kind} {one.name}" for one in changed)
    change = Change(
        server="kubectl",
        tool="apply_manifest",
        summary=f"Apply {len(changed)} object{'s' if len(changed) > 1 else ''}: {clip(names, 300)}",
        targets=tuple(one.target for one in changed),
        before="\n".join(
            f"{one.resource.kind} {one.name}: {'exists' if one.live else 'does not exist'}" for one in changed
        ),
        after="\n".join(
            f"--- {one.resource.kind} {one.name} in {one.namespace or 'the cluster'}\n{one.diff}" for one in changed
        ),
        undo="\n".join(one.undo for one in changed),
        exact=json.dumps([force, [one.wanted for one in changed]], sort_keys=True),
        warnings=("takes over fields that others manage (force)",) if force else (),
    )

    def write() -> str:
        done: list[str] = []
        for one in changed:
            try:
                one.write(force)
            except Refusal as error:
                if not done:
                    raise
                raise Refusal(
                    f"Applied {', '.join(done)}; then {one.resource.kind} {one.name} failed: {error}"
                ) from None
            done.append(f"{one.resource.kind} {one.name}")
        return f"Applied {', '.join(done)}."

    async def verify(report: Report) -> Seen:
        for one in changed:
            if one.resource == resources.DEPLOYMENT:
                return await _rollout(cluster, one.namespace, one.name, verify_s)(report)
        return Seen(True, "The API server holds them as applied.")

    return Plan(change, lambda: asyncio.to_thread(write), verify)


class _Tried:
    def __init__(
        self, cluster: Cluster, resource: Resource, namespace: str, wanted: Object, live: Object | None, result: Object
    ) -> None:
        self.cluster, self.resource, self.namespace, self.wanted, self.live = cluster, resource, namespace, wanted, live
        self.name = wanted["metadata"]["name"]
        self.target = target(cluster, resource, namespace, self.name, live)
        self.differs = fingerprint(result) != fingerprint(live)
        self.diff = clip(_visible_diff(live, result), 4000)
        self.undo = (
            f"apply_manifest with the former {resource.kind} {self.name}, or revert it where it is kept"
            if live
            else f"delete {resource.kind} {self.name}" + (f" in {namespace}" if namespace else "")
        )

    def write(self, force: bool) -> None:
        path = self.resource.path(self.namespace, self.name)
        body = copy.deepcopy(self.wanted)
        if self.live is not None:
            live = _unchanged(self.cluster, path, self.target)
            body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        elif _exists(self.cluster, path):
            raise Refusal(f"{self.target} was created by somebody else meanwhile. Ask for the change anew.")
        _send(self.cluster, path, body, force, dry=False)


def _exists(cluster: Cluster, path: str) -> bool:
    try:
        cluster.get(path)
    except ApiRefusal as error:
        if error.code == 404:
            return False
        raise
    return True


def _visible_diff(live: Object | None, result: Object) -> str:
    def bare(object: Object | None) -> Object | None:
        if object is None:
            return None
        metadata = {
            key: value
            for key, value in object["metadata"].items()
            if key not in (*_MOVES_BY_ITSELF, "uid", "creationTimestamp")
        }
        return {**{key: value for key, value in object.items() if key != "status"}, "metadata": metadata}

    said = rollouts.diff(bare(live), bare(result))
    if not said and live is not None and result.get("kind") == "Secret":
        keys = [k for k in (result.get("data") or {}) if (live.get("data") or {}).get(k) != result["data"][k]]
        return f"secret values change (hidden): {', '.join(keys)}"
    return said or "values that are hidden here change"


def _try(cluster: Cluster, namespace: str, wanted: Object, force: bool, allow: Callable[[str], str]) -> _Tried:
    resource = resources.by_kind(cluster, str(wanted["apiVersion"]), str(wanted["kind"]))
    place = allow(str(wanted["metadata"].get("namespace") or namespace)) if resource.namespaced else ""
    wanted = copy.deepcopy(wanted)
    if resource.namespaced:
        wanted["metadata"]["namespace"] = place
    resources.shown(wanted)  # a Secret's values are remembered as secret from here on
    path = resource.path(place, wanted["metadata"]["name"])
    try:
        live: Object | None = cluster.get(path)
    except ApiRefusal as error:
        if error.code != 404:
            raise
        live = None
    return _Tried(cluster, resource, place, wanted, live, _send(cluster, path, wanted, force, dry=True))


def _send(cluster: Cluster, path: str, body: Object, force: bool, *, dry: bool) -> Object:
    query = {"fieldManager": MANAGER, "force": "true" if force else "false", "dryRun": "All" if dry else None}
    try:
        return cluster.send("PATCH", path, json.dumps(body), APPLY, query)
    except ApiRefusal as error:
        if error.code == 409 and not force:
            if set(_MANAGERS.findall(error.message)) == {MANAGER}:
                return _send(cluster, path, body, True, dry=dry)  # only our own earlier changes stand in the way
            raise Refusal(
                f"Others manage fields of this manifest: {error.message} Leave those fields out, or set force=true to "
                "take them over."
            ) from None
        raise


def _documents(text: str) -> list[Object]:
    if len(text) > MOST_CHARACTERS:
        raise Refusal(f"The manifest has {len(text)} characters; {MOST_CHARACTERS} are allowed. Apply it in parts.")
    try:
        found = [document for document in yaml.load_all(text, Loader=_Plain) if document is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = clip(plain(str(getattr(error, "problem", "") or error)), 120)
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise Refusal(f"The manifest is not YAML{place}: {said}.") from None
    objects: list[Any] = []
    for document in found:
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
        objects += items if isinstance(items, list) else [document]
    if not objects:
        raise Refusal("The manifest is empty. Give YAML with apiVersion, kind and metadata.name.")
    if len(objects) > MOST_OBJECTS:
        raise Refusal(
            f"The manifest has {len(objects)} objects; {MOST_OBJECTS} at once are allowed. Apply it in parts."
        )
    for number, object in enumerate(objects, 1):
        fit = isinstance(object, dict) and isinstance(object.get("metadata"), dict)
        if not fit or not all(isinstance(object.get(k), str) for k in ("apiVersion", "kind")):
            raise Refusal(f"Object {number} of the manifest lacks apiVersion, kind or metadata.")
        if not isinstance(object["metadata"].get("name"), str):
            raise Refusal(f"Object {number} of the manifest lacks metadata.name.")
        for field in ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"):
            object["metadata"].pop(field, None)
        object.pop("status", None)
    return objects


class _Plain(yaml.SafeLoader):
    """No aliases: a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not accepted; write the values out")
        return super().compose_node(parent, index)
