"""The changes to deployments, pods and nodes: planned by a server-side dry run, applied only to what was shown."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from quarterdeck.keel.changes import Change, Plan, Report, Seen
from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import diffs, pods, problems, resources, rollouts, surroundings
from quarterdeck.kubectl.cluster import IN_CLUSTER, ApiRefusal, Cluster, Object
from quarterdeck.kubectl.resources import Resource
from quarterdeck.kubectl.targets import Patched, target, unchanged
from quarterdeck.kubectl.words import dig

RESTARTED = "kubectl.kubernetes.io/restartedAt"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
POLL_S = 0.5
OWNERS = {kind.kind: kind for kind in (resources.REPLICA_SET, resources.STATEFUL_SET, resources.DAEMON_SET)}


# Deployments


def restart(cluster: Cluster, namespace: str, name: str, verify_s: float) -> Plan:
    patched = Patched(cluster, resources.DEPLOYMENT, namespace, name)
    if dig(patched.live, "spec", "paused"):
        raise Refusal(f"Deployment {name} is paused, so a restart would do nothing. Resume it first (apply_manifest).")

    def patch(_: Object | None = None) -> Object:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
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
        change, _writing(patched, patch, STRATEGIC, f"Restarted {name}."), watched(cluster, namespace, name, verify_s)
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
    tried = patched.try_out(patch, MERGE)
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
        after=f"replicas: {dig(tried, 'spec', 'replicas')}",
        undo=_call(cluster, "scale_deployment", deployment=name, replicas=before, namespace=namespace),
        exact=f"scale {patched.target.uid} {replicas}",
        warnings=tuple(warnings),
    )
    done = f"Scaled {name} from {before} to {replicas}."
    return Plan(change, _writing(patched, lambda _: patch, MERGE, done), watched(cluster, namespace, name, verify_s))


def rollback(cluster: Cluster, namespace: str, name: str, revision: int | None, verify_s: float) -> Plan:
    patched = Patched(cluster, resources.DEPLOYMENT, namespace, name)
    if dig(patched.live, "spec", "paused"):
        raise Refusal(f"Deployment {name} is paused and cannot be rolled back. Resume it first.")
    sets = rollouts.replica_sets(cluster, namespace, patched.live)
    current = rollouts.revision(patched.live)
    older = [rs for rs in sets if rollouts.revision(rs) != current]
    now = rollouts.template(patched.live)
    if revision:
        chosen = next((rs for rs in older if rollouts.revision(rs) == revision), None)
    else:
        chosen = next((rs for rs in older if rollouts.template(rs) != now), None)
    if chosen is None:
        known = ", ".join(str(rollouts.revision(rs)) for rs in older) or "none"
        asked = f"revision {revision}" if revision else "an earlier revision"
        raise Refusal(f"Deployment {name} has no {asked} to go back to. Earlier revisions: {known} (now: {current}).")
    template = rollouts.template(chosen)
    if template == now:
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
        after=f"revision {to}; in the pod template:\n{diffs.diff(now, template)}",
        undo=_call(cluster, "rollback_deployment", deployment=name, revision=current, namespace=namespace),
        exact=json.dumps(template, sort_keys=True),
        warnings=_state(patched.live),
    )
    done = f"Rolled {name} back to the template of revision {to}."
    return Plan(change, _writing(patched, patch, STRATEGIC, done), watched(cluster, namespace, name, verify_s))


def _call(cluster: Cluster, tool: str, **arguments: object) -> str:
    """A tool call as one writes it down."""
    where = {} if cluster.name == IN_CLUSTER else {"context": cluster.name}
    return f"{tool}({', '.join(f'{key}={value}' for key, value in (arguments | where).items())})"


def _state(deployment: Object) -> tuple[str, ...]:
    state, summary = rollouts.judge(deployment)
    return () if state == "complete" else (f"right now: {state}. {summary}",)


def _scalers(cluster: Cluster, namespace: str, name: str) -> list[str]:
    try:
        listed = surroundings.autoscalers(cluster, namespace)
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


def watched(cluster: Cluster, namespace: str, name: str, seconds: float) -> Callable[[Report], Awaitable[Seen]]:
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
        live = unchanged(cluster, path, shown)
        conditions = {"uid": live["metadata"]["uid"]}
        cluster.send("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions})
        return f"Deleted pod {name}."

    async def verify(report: Report) -> Seen:
        return await asyncio.to_thread(_gone, cluster, namespace, pod, owner, verify_s)

    return Plan(change, lambda: asyncio.to_thread(write), verify)


def _gone(cluster: Cluster, namespace: str, pod: Object, owner: str, seconds: float) -> Seen:
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    deadline = time.monotonic() + seconds
    while _is_there(cluster, resources.POD.path(namespace, name), uid):
        if time.monotonic() > deadline:
            return Seen(False, f"Pod {name} is still ending after {seconds:.0f} s. describe_pod says more.")
        time.sleep(POLL_S)
    left = max(1.0, deadline - time.monotonic())
    kind, _, owner_name = owner.partition(" ")
    if kind == "Deployment":
        healthy, text = rollouts.wait(cluster, namespace, owner_name, left, lambda *_: None)
        return Seen(healthy, f"The pod is gone. {owner}: {text}")
    if kind in OWNERS:
        return _filled(cluster, namespace, OWNERS[kind], owner_name, left)
    return Seen(True, "The pod is gone.")


def _is_there(cluster: Cluster, path: str, uid: str) -> bool:
    try:
        return bool(cluster.get(path)["metadata"]["uid"] == uid)
    except ApiRefusal as error:
        if error.code == 404:
            return False
        raise


def _filled(cluster: Cluster, namespace: str, kind: Resource, name: str, seconds: float) -> Seen:
    """Whether the owner of a deleted pod is at its full number again."""
    deadline = time.monotonic() + seconds
    while True:
        wanted, ready = surroundings.figures(resources.read(cluster, kind, namespace, name))
        said = f"The pod is gone. {kind.kind} {name} has {ready} of {wanted} ready."
        if ready >= wanted:
            return Seen(True, said)
        if time.monotonic() > deadline:
            return Seen(False, f"{said} find_problems says why.")
        time.sleep(POLL_S)


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
        undo=_call(cluster, "cordon_node", node=name, uncordon=str(not uncordon).lower()),
        exact=f"cordon {patched.target.uid} {not uncordon}",
    )

    async def verify(_: Report) -> Seen:
        live = await asyncio.to_thread(resources.read, cluster, resources.NODE, "", name)
        closed_now = bool(dig(live, "spec", "unschedulable"))
        return Seen(closed_now is not uncordon, f"unschedulable is now {str(closed_now).lower()}.")

    return Plan(change, _writing(patched, lambda _: patch, MERGE, f"{word}ed node {name}."), verify)
