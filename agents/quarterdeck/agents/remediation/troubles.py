"""What the cluster itself says of each service: how its pods fail, and what that alone makes certain."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from quarterdeck.agents.remediation.models import Kind
from quarterdeck.agents.remediation.scene import Event, Pod, Problem, Scene, Workload, ended_ago

LATELY_S = 900.0
"""Events older than this tell of the past."""

_CODE = re.compile(r"exit code (\d{1,3})")
_MISSING = re.compile(
    r"(?:secrets?|configmaps?)\s{1,9}[\"'“]?[\w./-]{1,253}[\"'”]? (?:not found|is forbidden)"
    r"|(?:couldn't|could not) find key|references non-existent (?:config|secret) key"
    r"|not found.{0,20}(?:secret|configmap)|secret .{0,80}not found|configmap .{0,80}not found",
    re.IGNORECASE,
)
_IMAGE = re.compile(
    r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|ImageInspectError|RegistryUnavailable"
)
_NO_QUOTA = re.compile(r"exceeded quota|exceeds? (?:the )?(?:resource)?quota|quota exceeded", re.IGNORECASE)
_NO_ROOM = re.compile(
    r"nodes are available|Insufficient (?:cpu|memory)|untolerated taint|didn't match (?:Pod's )?node|unschedulable"
    r"|no nodes available|didn't (?:find|have) (?:available|free)|unbound immediate PersistentVolumeClaim",
    re.IGNORECASE,
)
_BAD_START = re.compile(
    r"executable file not found|no such file or directory|exec format error|not a directory"
    r"|CreateContainerError|RunContainerError|StartError",
    re.IGNORECASE,
)
_NO_DISK = re.compile(r"ephemeral-storage|DiskPressure|disk pressure|no space left", re.IGNORECASE)


@dataclass(frozen=True)
class Fact:
    """Something that the cluster says outright."""

    kind: Kind
    confidence: float
    words: str
    cite: str


@dataclass
class Trouble:
    service: str
    facts: list[Fact] = field(default_factory=list)
    crashing: bool = False
    unready: bool = False
    probing: str = ""
    """What its readiness probe said."""
    hanging: str = ""
    """What its liveness probe said."""
    offline: bool = False
    stuck: bool = False
    """A rollout does not go on, though no pod says why."""
    only_new: bool = False
    """Only pods of the newest revision fail; older ones serve."""
    warming: bool = False
    """It is rolling out: its new pods are not ready yet, and nothing but time is missing as far as can be seen."""
    exit_code: int | None = None
    cites: list[str] = field(default_factory=list)
    began_s: float | None = None
    words: str = ""

    @property
    def any(self) -> bool:
        return bool(self.facts) or self.crashing or self.unready or self.offline or self.stuck or bool(self.hanging)

    def fact(self, kind: Kind, confidence: float, words: str, cite: str) -> None:
        self.facts.append(Fact(kind, confidence, words[:300], cite))
        self.cite(cite)

    def cite(self, cite: str) -> None:
        if cite not in self.cites:
            self.cites.append(cite)

    def since(self, seconds: float | None) -> None:
        if seconds is not None:
            self.began_s = max(seconds, self.began_s or 0.0)


def troubles_of(scene: Scene) -> dict[str, Trouble]:
    found: dict[str, Trouble] = {}

    def of(service: str) -> Trouble:
        return found.setdefault(service, Trouble(service))

    for problem in scene.problems:
        _from_problem(scene, problem, of(problem.name) if _is_workload(problem) else None)
    for pod in scene.pods:
        _from_pod(scene, pod, of(pod.service))
    for event in scene.events:
        _from_event(scene, event, of(event.service))
    for workload in scene.workloads.values():
        _from_workload(workload, of(workload.name))
    for service, cite in scene.offline.items():
        trouble = of(service)
        trouble.offline = True
        trouble.cite(cite)
    for trouble in found.values():
        trouble.only_new = _only_new(scene, trouble.service)
        trouble.warming = _warming(scene, trouble)
        if trouble.warming:
            scene.warming.add(trouble.service)
    return {service: trouble for service, trouble in found.items() if trouble.any}


def _is_workload(problem: Problem) -> bool:
    kind = problem.what.partition(" ")[0]
    return kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "pods", "Job")


def _from_problem(scene: Scene, problem: Problem, trouble: Trouble | None) -> None:
    if trouble is None:
        return
    reason, said, cite = problem.reason, problem.said, problem.cite
    if reason == "restarted lately" or reason in ("terminating", "failed"):
        return
    if code := _CODE.search(said):
        trouble.exit_code = int(code[1])
    if reason == "OOMKilled":
        if problem.severity != "low":
            trouble.fact("oom_killed", 0.93, problem.detail, cite)
    elif _IMAGE.search(reason):
        trouble.fact("image_pull", 0.95, problem.detail, cite)
    elif _NO_QUOTA.search(said):
        trouble.fact("quota_exceeded", 0.95, _sentence(said, _NO_QUOTA), cite)
    elif reason == "CreateContainerConfigError" or (_MISSING.search(said) and reason != "CrashLoopBackOff"):
        if _MISSING.search(said) or "not found" in said:
            trouble.fact("missing_config", 0.95, problem.detail, cite)
        else:
            trouble.fact("bad_configuration", 0.8, problem.detail, cite)
    elif reason == "Evicted" and not _served(scene, problem.name):
        kind: Kind = "disk_full" if _NO_DISK.search(said) else "oom_killed" if "memory" in said else "unknown"
        trouble.fact(kind, 0.85, problem.detail, cite)
    elif reason == "unschedulable" or (
        _NO_ROOM.search(said) and reason in ("starting", "rollout is stuck", "FailedScheduling")
    ):
        trouble.fact("unschedulable", 0.95, _sentence(said, _NO_ROOM), cite)
    elif reason in ("CrashLoopBackOff", "Error", "keeps restarting", "ContainerStatusUnknown"):
        trouble.crashing = True
        trouble.words = problem.detail
        trouble.cite(cite)
    elif reason in ("CreateContainerError", "RunContainerError", "StartError", "PostStartHookError"):
        trouble.crashing = True
        trouble.fact("bad_configuration", 0.85, problem.detail, cite)
    elif reason in ("not ready", "not all ready", "Unknown"):
        trouble.unready = True
        trouble.words = trouble.words or problem.detail
        trouble.cite(cite)
    elif reason == "FailedCreate" and re.search(
        r"(?:maximum|minimum) \S{1,80} usage|must specify (?:limits|requests)", said
    ):
        trouble.fact("bad_configuration", 0.8, problem.detail, cite)
    elif reason == "FailedCreate":
        kind = "permission_denied" if re.search(r"forbidden|denied", said, re.IGNORECASE) else "unknown"
        trouble.fact(kind, 0.8, problem.detail, cite)
    elif reason == "rollout is stuck":
        trouble.stuck = True
        trouble.cite(cite)


_LEFT_BEHIND = frozenset({"Evicted", "ContainerStatusUnknown", "NodeShutdown", "Shutdown", "Failed"})


def _served(scene: Scene, service: str) -> bool:
    """Whether others have long taken the place of pods that were left behind."""
    workload = scene.workloads.get(service)
    return workload is not None and bool(workload.wanted) and (workload.ready or 0) >= (workload.wanted or 0)


def _sentence(said: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(said)
    start = max(0, (found.start() if found else 0) - 120)
    return said[start : start + 280]


def _from_pod(scene: Scene, pod: Pod, trouble: Trouble) -> None:
    for text in (*pod.ends, *pod.why):
        if pod.sick and (code := _CODE.search(text)):
            trouble.exit_code = int(code[1])
        if pod.sick and "OOMKilled" in text:
            trouble.fact("oom_killed", 0.93, text, pod.cite)
        if pod.sick and _BAD_START.search(text) and "StartError" in text:
            trouble.fact("bad_configuration", 0.85, text, pod.cite)
    if not pod.sick or (pod.status in _LEFT_BEHIND and _served(scene, pod.service)):
        return
    trouble.since(ended_ago(pod) if pod.status in ("CrashLoopBackOff", "Error") else None)
    status = pod.status.removeprefix("Init:")
    if status == "OOMKilled":
        trouble.fact("oom_killed", 0.93, f"pod {pod.name} was OOMKilled", pod.cite)
    elif _IMAGE.fullmatch(status):
        trouble.fact("image_pull", 0.9, f"pod {pod.name}: {status}", pod.cite)
    elif status == "CreateContainerConfigError":
        why = " ".join(pod.why)
        certain = bool(_MISSING.search(why)) or not why
        trouble.fact(
            "missing_config" if certain else "bad_configuration", 0.85, f"pod {pod.name}: {why or status}", pod.cite
        )
    elif status in ("CrashLoopBackOff", "Error", "CreateContainerError", "RunContainerError", "StartError"):
        trouble.crashing = True
        trouble.cite(pod.cite)
    elif status == "Running":
        trouble.unready = True
        trouble.cite(pod.cite)
    elif status == "Pending" and any(_NO_ROOM.search(why) for why in pod.why):
        trouble.fact("unschedulable", 0.95, " ".join(pod.why), pod.cite)
    elif status in ("ContainerCreating", "PodInitializing", "Pending", "Terminating"):
        pass
    else:
        trouble.unready = True
        trouble.cite(pod.cite)


def _from_event(scene: Scene, event: Event, trouble: Trouble) -> None:
    if not event.warning and event.reason != "Killing":
        return
    if event.age_s is not None and event.age_s > LATELY_S:
        return
    message, cite = event.message, event.cite
    sick = any(pod.sick for pod in scene.pods_of(event.service)) or not scene.pods_of(event.service)
    if event.reason == "Unhealthy" and sick:
        trouble.since(event.first_s if event.first_s is not None else event.age_s)
        if message.startswith("Liveness"):
            trouble.hanging = message
            trouble.cite(cite)
        elif message.startswith(("Readiness", "Startup")):
            trouble.probing = message
    elif event.reason == "Unhealthy" and message.startswith("Liveness") and event.count >= 3:
        # Between two restarts a hanging container looks well for a moment.
        if any(pod.restarts >= 2 and _ended_lately(pod) for pod in scene.pods_of(event.service)):
            trouble.hanging = message
            trouble.cite(cite)
    elif (
        event.reason == "FailedScheduling"
        and sick
        and any(pod.status in ("Pending", "") for pod in scene.pods_of(event.service))
    ):
        trouble.fact("unschedulable", 0.95, message, cite)
    elif event.reason in ("FailedMount", "FailedAttachVolume", "Failed") and _MISSING.search(message) and sick:
        trouble.fact("missing_config", 0.95, message, cite)
    elif event.reason == "FailedCreate" and _NO_QUOTA.search(message) and _short_of_pods(scene, event.service):
        trouble.fact("quota_exceeded", 0.95, message, cite)
    elif event.reason in ("Evicted", "FreeDiskSpaceFailed") and _NO_DISK.search(message):
        trouble.fact("disk_full", 0.85, message, cite)


def _ended_lately(pod: Pod) -> bool:
    ago = ended_ago(pod)
    return ago is not None and ago < LATELY_S


def _short_of_pods(scene: Scene, service: str) -> bool:
    workload = scene.workloads.get(service)
    if workload is None or workload.wanted is None:
        return True
    return len(scene.pods_of(service)) < workload.wanted or (workload.ready or 0) < workload.wanted


def _from_workload(workload: Workload, trouble: Trouble) -> None:
    for why in workload.why:
        if _NO_QUOTA.search(why):
            trouble.fact("quota_exceeded", 0.95, why, workload.cites[-1])
    if workload.rollout == "stuck" and workload.cites:
        trouble.stuck = True
        trouble.cite(workload.cites[-1])


def _only_new(scene: Scene, service: str) -> bool:
    """Whether pods of the newest replica set fail while those of the older ones are well."""
    pods = [pod for pod in scene.pods_of(service) if pod.ready or pod.sick]
    ages: dict[str, float] = {}
    for pod in pods:
        ages[pod.hash] = max(ages.get(pod.hash, 0.0), pod.age_s or 0.0)
    revisions = (scene.workloads.get(service) or Workload(service)).revisions
    if len(ages) < 2 or "" in ages or (revisions and len(revisions) < 2):
        return False
    sick = {pod.hash for pod in pods if pod.sick}
    newest = min(ages, key=lambda hashed: (ages[hashed], hashed not in sick))
    faulty = {pod.hash for pod in pods if _fails(pod, 1 if pod.hash == newest else 2)}
    return faulty == {newest}


def _fails(pod: Pod, ends: int) -> bool:
    """Between two of its ends a crashing container looks well for a moment: that moment must not change the story."""
    return pod.sick or (pod.restarts >= ends and _ended_lately(pod))


DEADLINE_S = 600.0
"""What Kubernetes gives a rollout to make progress, where nobody chose another time."""


def _warming(scene: Scene, trouble: Trouble) -> bool:
    """Whether a rollout goes on within its deadline and its pods are merely not ready yet."""
    if trouble.facts or trouble.crashing or trouble.stuck or trouble.hanging or not trouble.unready:
        return False
    workload = scene.workloads.get(trouble.service) or Workload(trouble.service)
    sick = scene.pods_of(trouble.service, sick=True)
    if workload.rollout == "stuck" or any(pod.restarts or pod.ends_badly for pod in sick):
        return False
    if trouble.only_new and workload.rollout in ("progressing", "paused"):
        return True
    newest = workload.revisions[0] if len(workload.revisions) > 1 else None
    fresh = newest is not None and newest.current and newest.age_s is not None and newest.age_s < DEADLINE_S
    young = bool(sick) and all(pod.age_s is None or pod.age_s < DEADLINE_S for pod in sick)
    return young and (trouble.only_new or fresh)
