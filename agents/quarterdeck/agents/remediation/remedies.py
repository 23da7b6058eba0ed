"""What to do about a cause: one change, or none and why; and what cures it for good."""

from __future__ import annotations

import math
import re

from quarterdeck.agents.remediation.models import Action, Cause, Diagnosis, Kind
from quarterdeck.agents.remediation.scene import Revision, Scene
from quarterdeck.keel.answers import clip

SURE = 0.6
"""Below this confidence nothing is changed."""
MOST_PODS = 10

_NO: dict[Kind, str] = {
    "oom_killed": "the kubelet restarts it already, and a restart changes neither its appetite nor its limit",
    "crash_loop": "it is restarted already, and ends the same way each time",
    "bad_configuration": "it starts with the same configuration again; the setting has to be mended",
    "image_pull": "there is no earlier revision with another image to go back to",
    "missing_config": "a restart finds the same gap; the Secret or ConfigMap has to be created",
    "readiness_failing": "it runs and says itself that it is not ready; a restart would lose what it is doing about it",
    "liveness_failing": "its liveness probe restarts it already, without lasting success",
    "dependency_down": "what is down cannot be mended with the tools at hand, and those who need it are not at fault",
    "dns_failure": "a restart resolves no names; the cluster's DNS or the name is at fault",
    "too_many_connections": "more pods would take still more connections, and a restart frees them for a moment only",
    "disk_full": "a restart frees no space, and nothing may be deleted without its owner",
    "permission_denied": "a restart grants no rights",
    "port_in_use": "it is restarted already and finds the port taken each time",
    "certificate_expired": "only a new certificate helps",
    "traffic_surge": "all services bear it so far",
    "bad_rollout": "there is no earlier revision to go back to",
    "unschedulable": "no change of pods makes room on the nodes",
    "node_not_ready": "the node has to be mended; the cluster moves its pods by itself",
    "hpa_at_maximum": "the autoscaler would undo a change of replicas; its maximum has to be raised",
    "quota_exceeded": "only who owns the quota can raise it",
    "timeouts": "a restart does not make answers come sooner",
    "unknown": "the cause is not known, and a change might harm",
}

_ADVICE: dict[Kind, tuple[str, ...]] = {
    "oom_killed": ("Look for a leak (memory over time), and set the memory limit to what it really needs.",),
    "crash_loop": ("Read the last words before the crash and mend the program; check what changed lately.",),
    "bad_configuration": (
        "Mend the setting that the log names, then roll it out; validate settings before deploying.",
    ),
    "image_pull": ("Check that the image and its tag exist and that the pull secret is valid; pin images by digest.",),
    "missing_config": (
        "Create the missing Secret or ConfigMap (or key), or take the reference out of the deployment.",
    ),
    "readiness_failing": ("Ask the health address what it waits for; separate readiness from what others do.",),
    "liveness_failing": (
        "Find out why it does not answer (threads, locks, CPU throttling); give the probe time if it is only slow.",
    ),
    "dependency_down": ("Bring the dependency back first; let those who need it wait and retry with back-off.",),
    "dns_failure": ("Check the name, the cluster's DNS pods (coredns) and network policies for port 53.",),
    "database_locked": (
        "Switch SQLite to write-ahead logging (PRAGMA journal_mode=WAL) and set a busy_timeout; keep writes short.",
        "For many writers at once move to a database server.",
    ),
    "too_many_connections": (
        "Bound each pool so that all pods together stay below the database's maximum; look for connections that are "
        "not given back; put a pooler such as PgBouncer in front.",
    ),
    "disk_full": ("Free space or enlarge the volume; rotate logs, bound what is stored, and alert at 80 %.",),
    "permission_denied": ("Check file owners (fsGroup, runAsUser), the service account's rights and credentials.",),
    "port_in_use": ("Find what else listens on the port (sidecar, hostPort, hostNetwork), or use another one.",),
    "certificate_expired": ("Renew the certificate and automate it (cert-manager); alert 14 days before the end.",),
    "traffic_surge": ("Find where the traffic comes from; add an autoscaler or a rate limit at the entrance.",),
    "bad_rollout": ("Mend the new revision before it is rolled out again; keep a readiness probe that catches this.",),
    "unschedulable": ("Lower its requests, add nodes, or mend taints, tolerations and selectors.",),
    "node_not_ready": ("Look at the node's kubelet, network and disk; drain it if it does not come back.",),
    "hpa_at_maximum": ("Raise maxReplicas of the autoscaler if nodes have room; otherwise make the service cheaper.",),
    "quota_exceeded": ("Ask for a larger quota or release what is not used.",),
    "deadlock": ("Take locks in one order, with a time limit; dump the threads before the next restart.",),
    "timeouts": ("Find out what is slow (traces, slow queries); set time limits and retries that add up.",),
    "scaled_to_zero": ("Find out who scaled it to 0 and why, so that it does not happen again.",),
    "unknown": ("Collect what is missing and look again.",),
}

_REGISTRY_AWAY = re.compile(
    r"toomanyrequests|rate limit|i/o timeout|connection refused|no such host|timed? ?out|503|TLS handshake",
    re.IGNORECASE,
)


def prescribe(scene: Scene, diagnosis: Diagnosis) -> Diagnosis:
    """Fill in what to do about the first cause, and the advice for all."""
    root = diagnosis.root
    if root is None:
        diagnosis.no_action_because = (
            "nothing is wrong as far as can be seen" if diagnosis.healthy else "nothing was found"
        )
        return diagnosis
    reason, action = _for(scene, root)
    if action is not None and root.confidence < SURE:
        action, reason = None, f"confidence {root.confidence:.0%} is too little to change something"
    diagnosis.action, diagnosis.no_action_because = action, "" if action else reason
    advice = [line for cause in diagnosis.causes for line in _ADVICE.get(cause.kind, ())]
    if not scene.answered:
        advice = ["`quarterdeck doctor` says what is not set up or cannot be reached, and how to mend it."]
    if diagnosis.missing:
        advice.append(f"Make available what could not be asked: {clip(diagnosis.missing[0], 300)}")
    diagnosis.advice = list(dict.fromkeys(advice))[:10]
    return diagnosis


def _for(scene: Scene, root: Cause) -> tuple[str, Action | None]:
    reason = _NO.get(root.kind, "")
    if root.service in scene.warming:
        return "its new revision is still rolling out, within its deadline, and nothing crashes: look again later", None
    if root.service not in scene.workloads or scene.workloads[root.service].kind != "Deployment":
        return reason or "it is no deployment that could be restarted, scaled or rolled back here", None
    action: Action | None = None
    match root.kind:
        case "database_locked" | "deadlock":
            action = _restart(scene, root)
            reason = "it still serves; only single requests meet the lock"
            if root.kind == "database_locked" and not _FILE_LOCK.search(root.summary):
                action, reason = None, "another session holds the lock in the database server: end that one"
        case "readiness_failing" if HANGS.search(root.summary):
            action = _restart(scene, root)
        case "scaled_to_zero":
            action = _start(scene, root)
        case "bad_rollout" | "image_pull" | "missing_config":
            action = _rollback(scene, root)
            if root.kind == "image_pull" and _REGISTRY_AWAY.search(root.summary) and not _not_found(root.summary):
                action, reason = None, "the registry does not answer; the image itself may be well"
        case "oom_killed" | "bad_configuration" | "crash_loop" | "permission_denied" | "liveness_failing":
            pass
        case "traffic_surge":
            action = _grow(scene, root)
    return reason, action


def _not_found(text: str) -> bool:
    return bool(
        re.search(r"not found|manifest unknown|does not exist|InvalidImageName|invalid reference", text, re.IGNORECASE)
    )


def _restart(scene: Scene, root: Cause) -> Action | None:
    """A restart frees a stale lock; it is proposed only where the service really is unwell."""
    unwell = root.service in scene.offline or any(pod.sick for pod in scene.pods_of(root.service))
    # Between two ends a crashing pod looks well for a moment.
    unwell = unwell or any(p.name == root.service and p.reason in ENDS_AGAIN for p in scene.problems)
    if not unwell:
        return None
    what = {"database_locked": "a stale lock", "deadlock": "the deadlock"}.get(root.kind, "what hangs")
    why = f"new pods start without {what}"
    return Action(tool="restart_deployment", arguments={"deployment": root.service}, why=why)


ENDS_AGAIN = ("keeps restarting", "CrashLoopBackOff")
_FILE_LOCK = re.compile(
    r"sqlite|database (?:\S{1,80} )?is locked|table is locked|lock file|/LOCK|already in use|h2", re.IGNORECASE
)
HANGS = re.compile(r"deadline exceeded|timed? ?out|timeout", re.IGNORECASE)
SCALED = re.compile(r"Scaled down replica set \S{1,253} from (\d{1,4}) to 0")


def _start(scene: Scene, root: Cause) -> Action:
    """Back to as many pods as it had, as far as events still tell."""
    told = [
        int(found[1])
        for event in scene.events
        if event.service == root.service and (found := SCALED.search(event.message))
    ]
    replicas = max(1, min(MOST_PODS, told[0] if told else 1))
    why = f"{root.service} is needed by {', '.join(root.affects[:3]) or 'others'} and runs no pods"
    return Action(tool="scale_deployment", arguments={"deployment": root.service, "replicas": replicas}, why=why)


_RESTART_ONLY = re.compile(r"restartedAt|change-cause|pod-template-hash")


def changes_something(revision: Revision) -> bool:
    """Whether a revision differs from the one before in more than the mark of a restart."""
    parts = [part for part in revision.changed.split(";") if part.strip(" +-~")]
    return any(
        not _RESTART_ONLY.search(part) and part.strip(" +-~") not in ("annotations:", "metadata:", "nothing")
        for part in parts
    )


def _rollback(scene: Scene, root: Cause) -> Action | None:
    """To the newest revision that is not like the current one, if the current one brought the trouble."""
    revisions = scene.workloads[root.service].revisions
    current = next((r for r in revisions if r.current), None)
    older = [r for r in revisions if current is not None and r.number < current.number]
    if current is None or not older or not changes_something(current):
        return None
    if root.kind == "image_pull" and current.images == older[0].images:
        return None
    if root.kind == "missing_config" and not re.search(r"secret|configmap|env|volume", current.changed, re.IGNORECASE):
        return None
    # The one before may be as bad: one that still has ready pods is known to be well.
    chosen = next((r for r in older if r.ready), older[0])
    why = f"revision {current.number} brought the trouble; revision {chosen.number} was well"
    arguments = {"deployment": root.service, "revision": chosen.number}
    return Action(tool="rollback_deployment", arguments=arguments, why=why)


def _grow(scene: Scene, root: Cause) -> Action | None:
    """More pods for the entrance, but only if answers got slower and no autoscaler is in charge."""
    workload, ratio = scene.workloads[root.service], scene.traffic.ratio or 1.0
    if (scene.traffic.slower or 1.0) < 1.5 or not workload.wanted:
        return None
    if any(service == root.service for service, *_ in scene.scalers.values()):
        return None
    replicas = min(MOST_PODS, math.ceil(workload.wanted * min(ratio, 2.0)))
    if replicas <= workload.wanted:
        return None
    why = f"traffic is ×{ratio:.1f} of the usual and answers take ×{scene.traffic.slower:.1f} as long"
    return Action(tool="scale_deployment", arguments={"deployment": root.service, "replicas": replicas}, why=why)
