"""Runs pods: pulls, starts, probes, restarts with back-off, kills, and writes their status and logs.

What a container does comes from a `Runtime`; the kubelet owns everything that a real one owns.
Times are in seconds of the world, which may pass faster than those of the wall.
"""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from quarterdeck.titanium import quantities
from quarterdeck.titanium.events import Recorder
from quarterdeck.titanium.kinds import Kinds
from quarterdeck.titanium.store import Happened, Store, timestamp

Object = dict[str, Any]
LOG_LINES = 20_000
PULL_S, CREATE_S, STOP_S = 0.6, 0.3, 0.5
BACKOFF_FIRST_S, BACKOFF_LAST_S = 10.0, 300.0


@dataclass(frozen=True)
class Exit:
    """How a container's process ended."""

    code: int
    reason: str = "Error"
    message: str = ""


class Process(Protocol):
    """One run of one container."""

    def poll(self, now: float) -> Exit | None:
        """None while it runs."""
        ...

    def ready(self, now: float) -> str | None:
        """None when the readiness probe passes, else the failure's text."""
        ...

    def alive(self, now: float) -> str | None:
        """The same for the liveness probe."""
        ...

    def usage(self, now: float) -> tuple[float, int]:
        """Cores and bytes in use; more bytes than the memory limit get it killed."""
        ...

    def stop(self) -> None:
        """SIGTERM."""
        ...


class Runtime(Protocol):
    def pull(self, image: str) -> str | None:
        """None when the image is there, else why not."""
        ...

    def start(
        self, pod: Object, container: Object, attempt: int, log: Callable[[str], None], now: float
    ) -> Process | str:
        """A running process, or why it cannot be started."""
        ...


class Idle:
    """A process that runs for ever and says so."""

    def poll(self, now: float) -> Exit | None:
        return None

    def ready(self, now: float) -> str | None:
        return None

    def alive(self, now: float) -> str | None:
        return None

    def usage(self, now: float) -> tuple[float, int]:
        return 0.01, 24 << 20

    def stop(self) -> None:
        pass


class IdleRuntime:
    """Every image is there and idles."""

    def pull(self, image: str) -> str | None:
        return None

    def start(
        self, pod: Object, container: Object, attempt: int, log: Callable[[str], None], now: float
    ) -> Process | str:
        log(f"{container['name']} started")
        return Idle()


Log = deque[tuple[datetime, str]]


@dataclass
class Run:
    """One container of one pod."""

    name: str
    spec: Object
    init: bool = False
    state: str = "new"
    """new, pulling, blocked (waiting for an image or configuration), backoff, running, ended"""
    reason: str = "ContainerCreating"
    message: str = ""
    until: float = 0.0
    process: Process | None = None
    attempt: int = 0
    backoff: float = 0.0
    started_at: float = 0.0
    started: str = ""
    ready: bool = False
    failures: int = 0
    next_probe: float = 0.0
    unready: int = 0
    terminated: Object | None = None
    last: Object | None = None
    log: Log = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    previous: Log | None = None
    was_run: bool = False


@dataclass
class Held:
    """A pod on a node."""

    pod: Object
    runs: list[Run]
    ip: str
    started: str
    stopping: float | None = None
    written: Object | None = None


class Kubelet:
    def __init__(self, store: Store, kinds: Kinds, record: Recorder, runtime: Runtime) -> None:
        self._store = store
        kind, node = kinds.named("Pod"), kinds.named("Node")
        secret, config = kinds.named("Secret"), kinds.named("ConfigMap")
        assert kind and node and secret and config
        self._kind, self._node, self._secret, self._config = kind, node, secret, config
        self._record = record
        self.runtime = runtime
        self.held: dict[str, Held] = {}
        self.now = 0.0
        self._addresses = itertools.count(10)
        store.listeners.append(self._heard)

    def _heard(self, happened: Happened) -> None:
        if happened.kind is not self._kind:
            return
        pod = happened.object
        uid = pod["metadata"]["uid"]
        if happened.type == "DELETED":
            held = self.held.pop(uid, None)
            for run in held.runs if held else []:
                if run.process is not None:
                    run.process.stop()
        elif uid in self.held:
            self.held[uid].pod = pod
            for run, container in zip(self.held[uid].runs, _containers(pod), strict=False):
                run.spec = container[0]
        elif pod["spec"].get("nodeName") and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            number = next(self._addresses)
            self.held[uid] = Held(
                pod,
                [Run(container["name"], container, init) for container, init in _containers(pod)],
                f"10.244.{number // 250 % 250}.{number % 250 + 1}",
                timestamp(),
            )

    # The loop

    def tick(self, now: float) -> None:
        self.now = now
        for held in list(self.held.values()):
            if self._node_is_away(held.pod):
                continue
            if held.pod["metadata"].get("deletionTimestamp"):
                self._stop(held, now)
                continue
            self._advance(held, now)
            self._write(held)

    def _node_is_away(self, pod: Object) -> bool:
        node = self._store.find(self._node, "", pod["spec"]["nodeName"])
        conditions = (node or {}).get("status", {}).get("conditions") or []
        return any(c["type"] == "Ready" and c["status"] != "True" for c in conditions)

    def _stop(self, held: Held, now: float) -> None:
        if held.stopping is None:
            grace = held.pod["metadata"].get("deletionGracePeriodSeconds", 30)
            held.stopping = now + min(STOP_S, grace)
            for run in held.runs:
                if run.process is not None:
                    self._say(held, run, "Normal", "Killing", f"Stopping container {run.name}")
                    run.process.stop()
        if now >= held.stopping:
            self.held.pop(held.pod["metadata"]["uid"], None)
            current = self._store.find(self._kind, held.pod["metadata"]["namespace"], held.pod["metadata"]["name"])
            if current is not None and current["metadata"]["uid"] == held.pod["metadata"]["uid"]:
                if current["metadata"].get("finalizers"):
                    self._store.change(
                        self._kind, current, lambda p: p["metadata"].update(deletionGracePeriodSeconds=0)
                    )
                else:
                    self._store.remove(self._kind, current)

    def _advance(self, held: Held, now: float) -> None:
        for run in held.runs:
            if run.init:
                if not (run.state == "ended" and run.terminated and run.terminated["exitCode"] == 0):
                    self._step(held, run, now)
                    return
            else:
                self._step(held, run, now)

    def _step(self, held: Held, run: Run, now: float) -> None:
        match run.state:
            case "new":
                self._begin(held, run, now)
            case "pulling" | "blocked" | "backoff" if now >= run.until:
                self._create(held, run, now)
            case "running":
                self._watch(held, run, now)

    def _begin(self, held: Held, run: Run, now: float) -> None:
        missing = self._missing_volume(held.pod)
        if missing:
            run.reason, run.message, run.until = "ContainerCreating", "", now + 2.0
            if run.next_probe <= now:
                self._record(held.pod, "Warning", "FailedMount", missing, "kubelet", held.pod["spec"]["nodeName"])
                run.next_probe = now + 5.0
            return
        image = run.spec.get("image", "")
        if run.spec.get("imagePullPolicy") == "Always" or not run.was_run:
            self._say(held, run, "Normal", "Pulling", f'Pulling image "{image}"')
        run.state, run.reason, run.until = "pulling", "ContainerCreating", now + PULL_S

    def _create(self, held: Held, run: Run, now: float) -> None:
        image = run.spec.get("image", "")
        problem = self.runtime.pull(image)
        if problem is not None:
            self._image_trouble(held, run, image, problem, now)
            return
        if run.state == "pulling" or run.reason in ("ErrImagePull", "ImagePullBackOff"):
            self._say(held, run, "Normal", "Pulled", f'Successfully pulled image "{image}" in {PULL_S * 1000:.0f}ms')
            run.reason = "ContainerCreating"
        missing = self._missing_configuration(held.pod, run.spec)
        if missing:
            if run.reason != "CreateContainerConfigError" or run.message != missing:
                run.reason, run.message = "CreateContainerConfigError", missing
            self._say(held, run, "Warning", "Failed", f"Error: {missing}")
            run.state, run.until = "blocked", now + 3.0
            return
        self._start(held, run, now)

    def _image_trouble(self, held: Held, run: Run, image: str, problem: str, now: float) -> None:
        run.backoff = min(BACKOFF_LAST_S, run.backoff * 2 or BACKOFF_FIRST_S)
        if run.reason == "ErrImagePull":
            run.reason, run.message = "ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {problem}'
            self._say(held, run, "Normal", "BackOff", f'Back-off pulling image "{image}"')
            self._say(held, run, "Warning", "Failed", "Error: ImagePullBackOff")
            run.until = now + run.backoff
        else:
            run.reason, run.message = "ErrImagePull", problem
            self._say(held, run, "Warning", "Failed", f'Failed to pull image "{image}": {problem}')
            self._say(held, run, "Warning", "Failed", "Error: ErrImagePull")
            run.until = now + 1.0
        run.state = "blocked"

    def _start(self, held: Held, run: Run, now: float) -> None:
        if run.was_run:
            run.previous, run.log = run.log, deque(maxlen=LOG_LINES)
            run.attempt += 1
        log = run.log
        started = self.runtime.start(
            held.pod, run.spec, run.attempt, lambda line: log.append((datetime.now(UTC), line)), now
        )
        run.was_run = True
        run.started_at, run.started = now, timestamp()
        run.ready, run.failures, run.unready = False, 0, 0
        run.next_probe = now + _probe(run.spec, "readinessProbe").get("initialDelaySeconds", 0)
        self._say(held, run, "Normal", "Created", f"Created container: {run.name}")
        if isinstance(started, str):
            run.process = None
            self._say(held, run, "Warning", "Failed", f"Error: {started}")
            self._ended(held, run, Exit(128, "StartError", started), now)
            return
        run.process, run.state = started, "running"
        run.last = run.terminated or run.last
        run.terminated = None
        self._say(held, run, "Normal", "Started", f"Started container {run.name}")

    def _watch(self, held: Held, run: Run, now: float) -> None:
        process = run.process
        assert process is not None
        ended = process.poll(now)
        limit = quantities.parse(((run.spec.get("resources") or {}).get("limits") or {}).get("memory", 0))
        if ended is None and limit and process.usage(now)[1] > limit:
            process.stop()
            ended = Exit(137, "OOMKilled")
        if ended is not None:
            self._ended(held, run, ended, now)
            return
        if now < run.next_probe:
            return
        self._probe_alive(held, run, process, now)
        if run.state == "running":
            self._probe_ready(held, run, process, now)

    def _probe_alive(self, held: Held, run: Run, process: Process, now: float) -> None:
        probe = _probe(run.spec, "livenessProbe")
        if not probe or now - run.started_at < probe.get("initialDelaySeconds", 0):
            return
        failure = process.alive(now)
        run.failures = run.failures + 1 if failure else 0
        if failure:
            self._say(held, run, "Warning", "Unhealthy", f"Liveness probe failed: {failure}")
        if run.failures >= probe.get("failureThreshold", 3):
            words = f"Container {run.name} failed liveness probe, will be restarted"
            self._say(held, run, "Normal", "Killing", words)
            process.stop()
            self._ended(held, run, Exit(137, "Error"), now)

    def _probe_ready(self, held: Held, run: Run, process: Process, now: float) -> None:
        probe = _probe(run.spec, "readinessProbe")
        run.next_probe = now + min(probe.get("periodSeconds", 10), 2.0)  # a practice world probes more often
        failure = process.ready(now) if probe else None
        if failure is None:
            run.ready, run.unready = True, 0
            return
        self._say(held, run, "Warning", "Unhealthy", f"Readiness probe failed: {failure}")
        run.unready += 1
        if run.unready >= probe.get("failureThreshold", 3) or not run.ready:
            run.ready = False

    def _ended(self, held: Held, run: Run, ended: Exit, now: float) -> None:
        run.process, run.ready = None, False
        run.terminated = {
            "exitCode": ended.code,
            "reason": ended.reason,
            **({"message": ended.message} if ended.message else {}),
            "startedAt": run.started,
            "finishedAt": timestamp(),
            "containerID": f"containerd://{held.pod['metadata']['uid'][:8]}{run.attempt:08x}",
        }
        policy = held.pod["spec"].get("restartPolicy", "Always")
        again = (policy == "Always" and not run.init) or (policy != "Never" and ended.code != 0)
        if not again:
            run.state = "ended"
            return
        if now - run.started_at > 600:
            run.backoff = 0.0
        run.state = "backoff"
        run.last = run.terminated
        if run.backoff == 0.0:
            run.backoff, run.until = BACKOFF_FIRST_S / 2, now + 1.0  # the first restart comes at once
            run.reason = ""
        else:
            run.backoff = min(BACKOFF_LAST_S, run.backoff * 2)
            run.until = now + run.backoff
            run.reason = "CrashLoopBackOff"
            pod = held.pod["metadata"]
            run.message = (
                f"back-off {run.backoff:.0f}s restarting failed container={run.name} "
                f"pod={pod['name']}_{pod['namespace']}({pod['uid']})"
            )
            words = (
                f"Back-off restarting failed container {run.name} in pod {pod['name']}_{pod['namespace']}({pod['uid']})"
            )
            self._say(held, run, "Warning", "BackOff", words)

    # What a container needs before it can be made

    def _missing_configuration(self, pod: Object, container: Object) -> str | None:
        namespace = pod["metadata"]["namespace"]
        for source in container.get("envFrom") or []:
            for field_name, kind in (("secretRef", self._secret), ("configMapRef", self._config)):
                reference = source.get(field_name)
                if reference and not reference.get("optional"):
                    if self._store.find(kind, namespace, reference["name"]) is None:
                        return f'{kind.kind.lower()} "{reference["name"]}" not found'
        for variable in container.get("env") or []:
            source = variable.get("valueFrom") or {}
            for field_name, kind in (("secretKeyRef", self._secret), ("configMapKeyRef", self._config)):
                reference = source.get(field_name)
                if not reference or reference.get("optional"):
                    continue
                found = self._store.find(kind, namespace, reference["name"])
                if found is None:
                    return f'{kind.kind.lower()} "{reference["name"]}" not found'
                if reference["key"] not in (found.get("data") or {}):
                    return f"couldn't find key {reference['key']} in {kind.kind} {namespace}/{reference['name']}"
        return None

    def _missing_volume(self, pod: Object) -> str | None:
        namespace = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes") or []:
            for field_name, kind, key in (("secret", self._secret, "secretName"), ("configMap", self._config, "name")):
                source = volume.get(field_name)
                if source and not source.get("optional") and self._store.find(kind, namespace, source[key]) is None:
                    lacks = f'{kind.kind.lower()} "{source[key]}" not found'
                    return f'MountVolume.SetUp failed for volume "{volume["name"]}" : {lacks}'
        return None

    # Status

    def _write(self, held: Held) -> None:
        status = self._status(held)
        if status == held.written:
            return
        held.written = copy.deepcopy(status)
        old = {c["type"]: c for c in held.pod.get("status", {}).get("conditions") or []}
        for condition in status["conditions"]:
            before = old.get(condition["type"])
            same = before is not None and before["status"] == condition["status"]
            condition["lastTransitionTime"] = before["lastTransitionTime"] if before and same else timestamp()
            condition.setdefault("lastProbeTime", None)
        self._store.change(self._kind, held.pod, lambda pod: pod.update(status=status))

    def _status(self, held: Held) -> Object:
        pod = held.pod
        inits = [run for run in held.runs if run.init]
        mains = [run for run in held.runs if not run.init]
        initialized = all(r.state == "ended" and r.terminated and r.terminated["exitCode"] == 0 for r in inits)
        ready = bool(mains) and all(run.ready for run in mains)
        if mains and all(run.state == "ended" for run in mains):
            failed = any(run.terminated and run.terminated["exitCode"] != 0 for run in mains)
            phase = "Failed" if failed else "Succeeded"
        elif any(run.was_run for run in mains):
            phase = "Running"
        else:
            phase = "Pending"
        unready = [run.name for run in mains if not run.ready]
        lacking = (
            {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(unready)}]"}
            if not ready
            else {}
        )

        def condition(type: str, true: bool, **more: Any) -> Object:
            return {"type": type, "status": "True" if true else "False", **more}

        scheduled = next(
            (c for c in pod.get("status", {}).get("conditions") or [] if c["type"] == "PodScheduled"), None
        )
        node = self._store.find(self._node, "", pod["spec"]["nodeName"]) or {}
        addresses = node.get("status", {}).get("addresses") or []
        host = next((a["address"] for a in addresses if a["type"] == "InternalIP"), "127.0.0.1")
        return {
            "phase": phase,
            "conditions": [
                condition("Initialized", initialized),
                condition("Ready", ready, **lacking),
                condition("ContainersReady", ready, **lacking),
                {**(scheduled or {}), **condition("PodScheduled", True)},
            ],
            "hostIP": host,
            "podIP": held.ip,
            "podIPs": [{"ip": held.ip}],
            "startTime": held.started,
            **({"initContainerStatuses": [_said(run, True) for run in inits]} if inits else {}),
            "containerStatuses": [_said(run, initialized) for run in mains],
            "qosClass": pod.get("status", {}).get("qosClass", "BestEffort"),
        }

    def _say(self, held: Held, run: Run, type: str, reason: str, message: str) -> None:
        place = "initContainers" if run.init else "containers"
        node = held.pod["spec"]["nodeName"]
        self._record(held.pod, type, reason, message, "kubelet", node, f"spec.{place}{{{run.name}}}")


def _said(run: Run, initialized: bool) -> Object:
    if run.state == "running":
        state: Object = {"running": {"startedAt": run.started}}
    elif run.state == "ended" or (run.state == "backoff" and not run.reason):
        state = {"terminated": run.terminated}
    else:
        reason = run.reason if initialized or run.init else "PodInitializing"
        state = {"waiting": {"reason": reason, **({"message": run.message} if run.message else {})}}
    image = run.spec.get("image", "")
    return {
        "name": run.name,
        "state": state,
        "lastState": {"terminated": run.last} if run.last and run.state != "ended" else {},
        "ready": run.ready or (run.init and run.state == "ended"),
        "restartCount": run.attempt,
        "image": image,
        "imageID": f"sha256:{abs(hash(image)):064x}"[:71] if run.was_run else "",
        "started": run.state == "running",
    }


def _containers(pod: Object) -> list[tuple[Object, bool]]:
    spec = pod["spec"]
    return [(c, True) for c in spec.get("initContainers") or []] + [(c, False) for c in spec.get("containers") or []]


def _probe(container: Object, name: str) -> Object:
    probe = container.get(name)
    return probe if isinstance(probe, dict) else {}
