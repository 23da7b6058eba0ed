"""Pods: all of them in a few lines with the unhealthy ones first, one of them in the order a person reads, its log."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from quarterdeck.keel.answers import clip, fit, plain
from quarterdeck.keel.durations import parse_duration
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.kubectl import events, resources
from quarterdeck.kubectl.cluster import TABLE, ApiRefusal, Cluster, Object
from quarterdeck.kubectl.models import ContainerSaid, PodDescription, PodList, PodLogs, PodRow
from quarterdeck.kubectl.words import age, dig, outside

WELL = frozenset({"Running", "Completed", "Succeeded"})
LATELY = timedelta(minutes=10)
LOG_BYTES = 1 << 20


def where(cluster: Cluster, namespace: str) -> str:
    return f"namespace {namespace} of {cluster.name}"


def rows(cluster: Cluster, namespace: str, selector: str | None = None) -> list[PodRow]:
    """Every pod as the API server's own table says it: a twentieth of the bytes that the objects take."""
    table = cluster.get(resources.POD.path(namespace), {"labelSelector": selector, "includeObject": "None"}, TABLE)
    if table.get("kind") != "Table":
        return [_row(pod) for pod in table.get("items") or []]
    columns = {column["name"].lower(): place for place, column in enumerate(table["columnDefinitions"])}
    name, ready, status = columns["name"], columns["ready"], columns["status"]
    restarts, old = columns["restarts"], columns["age"]
    return [
        PodRow.model_construct(
            name=cells[name], ready=cells[ready], status=cells[status], restarts=str(cells[restarts]), age=cells[old]
        )
        for cells in (row["cells"] for row in table.get("rows") or [])
    ]


def unhealthy(row: PodRow) -> bool:
    if row.status in ("Completed", "Succeeded"):
        return False
    have, _, wanted = row.ready.partition("/")
    return row.status not in WELL or have != wanted


def restarted_lately(row: PodRow) -> bool:
    """Well now, but not ten minutes ago: the table writes `5 (40s ago)`."""
    _, since, rest = row.restarts.partition("(")
    try:
        return bool(since) and parse_duration(rest.removesuffix(" ago)")) < LATELY
    except ValueError:
        return False


def rank(row: PodRow) -> tuple[int, str]:
    """The worst first: failing, not ready, on the way, restarted lately, well, done."""
    if not unhealthy(row):
        return (5 if row.status != "Running" else 3 if restarted_lately(row) else 4), row.name
    if row.status in ("Pending", "ContainerCreating", "PodInitializing", "Terminating"):
        return 2, row.name
    return (1 if row.status == "Running" else 0), row.name


def list_pods(cluster: Cluster, namespace: str, selector: str | None, status: str | None, offset: int) -> PodList:
    found = rows(cluster, namespace, selector)
    if not found and not selector:
        resources.check_namespace(cluster, namespace)
    by_status = dict(Counter(row.status for row in found).most_common(12))
    if status:
        found = [row for row in found if _is(row, status.lower())]
    ordered = sorted(found, key=rank)
    shown = ordered[offset : offset + 100]
    sick = sum(1 for row in found if unhealthy(row))
    place = where(cluster, namespace) + (f" (status {status})" if status else "")

    def make(count: int) -> PodList:
        left = len(ordered) - offset - count
        return PodList(
            where=f"{place}; {sick} unhealthy, listed first" if sick else place,
            total=len(found),
            by_status=by_status,
            pods=shown[:count],
            left_out=left or None,
            more=f"offset={offset + count}, or filter with status or label_selector" if left else None,
        )

    return fit(make, len(shown))


def _is(row: PodRow, status: str) -> bool:
    if status == "unhealthy":
        return unhealthy(row) or restarted_lately(row)
    return status in row.status.lower()


def describe(cluster: Cluster, namespace: str, name: str) -> PodDescription:
    pod = resources.read(cluster, resources.POD, namespace, name)
    try:
        happened, without = events.about(cluster, namespace, pod["metadata"]["uid"]), None
    except ApiRefusal as error:
        happened, without = [], f"(its events cannot be read: {error})"
    containers = [_container(pod, spec, init) for spec, init in specs(pod)]
    owner = next(iter(pod["metadata"].get("ownerReferences") or []), None)
    latest = happened[:15][::-1]

    def make(count: int) -> PodDescription:
        left = len(happened) - count
        return PodDescription(
            name=name,
            where=where(cluster, namespace),
            summary=summary(pod),
            why_unhealthy=why(pod),
            node=dig(pod, "spec", "nodeName"),
            owner=f"{owner['kind']} {owner['name']}" if owner else "none",
            containers=containers[:12],
            conditions=[_condition(c) for c in dig(pod, "status", "conditions") or []],
            events=latest[len(latest) - count :],
            left_out=f"({left} older events left out: list_events(name={name}))" if left > 0 else without,
        )

    return fit(make, len(latest))


def logs(
    cluster: Cluster, namespace: str, name: str, container: str | None, tail: int, since: str | None, previous: bool
) -> PodLogs:
    pod = resources.read(cluster, resources.POD, namespace, name)
    names = [spec["name"] for spec, _ in specs(pod)]
    mains = [spec["name"] for spec, init in specs(pod) if not init]
    if container is None:
        if len(mains) != 1:
            raise Refusal(f"{name} has several containers: say container={' or '.join(mains)}.")
        container = mains[0]
    if container not in names:
        raise Refusal(f"{name} has no container {clip(plain(container), 60)!r}. It has: {', '.join(names)}.")
    query: dict[str, Any] = {"container": container}
    if since:
        try:
            query["sinceSeconds"] = max(1, int(parse_duration(since).total_seconds()))
        except ValueError as error:
            raise Refusal(str(error)) from None
    if previous:
        query["previous"] = "true"
    try:
        lines, older = _newest(cluster, resources.POD.path(namespace, name, "log"), query, tail)
    except ApiRefusal as error:
        raise _no_log(error, name, container, previous) from None

    def make(count: int) -> PodLogs:
        left = len(lines) - count + older
        return PodLogs(
            pod=name,
            container=container,
            run="previous" if previous else "current",
            lines=lines[len(lines) - count :],
            left_out=f"({left} older lines do not fit; search_logs of the logs server finds what is in them)"
            if left
            else None,
        )

    return fit(make, len(lines))


def _newest(cluster: Cluster, path: str, query: dict[str, Any], tail: int) -> tuple[list[str], int]:
    """The newest lines, and how many of those asked for were too much to read. The API server cuts a log that is too
    long at its end, where the newest lines are: so fewer are asked for instead."""
    count = tail
    while True:
        text = cluster.text(path, {**query, "tailLines": count, "limitBytes": LOG_BYTES}, LOG_BYTES)
        if len(text.encode()) < LOG_BYTES - 4 or count == 1:
            return [clip(line, 600) for line in redact(plain(text)).splitlines()], tail - count
        count = max(1, count // 8)


def _no_log(error: ApiRefusal, name: str, container: str, previous: bool) -> Refusal:
    if "previous terminated container" in error.message:
        return Refusal(f"{container} of {name} has not restarted: there is no previous run. Leave `previous` out.")
    if "waiting to start" in error.message or "trying and failing" in error.message:
        return Refusal(
            f"{container} of {name} has not started, so it has no log: {error.message}. describe_pod says why."
        )
    return error


def specs(pod: Object) -> list[tuple[Object, bool]]:
    spec = pod.get("spec") or {}
    return [(c, True) for c in spec.get("initContainers") or []] + [(c, False) for c in spec.get("containers") or []]


def statuses(pod: Object) -> dict[str, Object]:
    status = pod.get("status") or {}
    both = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return {entry["name"]: entry for entry in both}


def summary(pod: Object) -> str:
    row = _row(pod)
    return f"{row.status}, {row.ready} ready, {row.restarts} restarts, {row.age} old"


def why(pod: Object) -> list[str]:
    """What is wrong with this pod, most telling first; empty when nothing is."""
    status = pod.get("status") or {}
    said = []
    if status.get("reason"):
        said.append(f"{status['reason']}: {outside(status.get('message', ''))}")
    said += [
        f"cannot be scheduled: {outside(condition.get('message', ''))}"
        for condition in status.get("conditions") or []
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]
    for name, entry in statuses(pod).items():
        said += _why_container(pod, name, entry)
    if pod["metadata"].get("deletionTimestamp"):
        said.append(f"is being deleted since {age(pod['metadata']['deletionTimestamp'])}")
    return said


def _why_container(pod: Object, name: str, entry: Object) -> list[str]:
    state, last = entry.get("state") or {}, last_end(entry)
    waiting, end = state.get("waiting"), state.get("terminated")
    said = []
    if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        said.append(f"container {name} waits: {waiting['reason']}: {outside(waiting.get('message', ''))}")
    if end and end.get("exitCode") != 0:
        said.append(f"container {name} ended: {ended(end)}")
    elif last and (waiting or entry.get("restartCount", 0)) and not entry.get("ready"):
        said.append(f"container {name} last ended: {ended(last)}")
    elif last and since(last) < LATELY:
        said.append(
            f"container {name} runs again after {entry.get('restartCount', 0)} restarts; it ended: {ended(last)}"
        )
    spec: Object = next((s for s, init in specs(pod) if s["name"] == name and not init), {})
    if "running" in state and not entry.get("ready") and spec:
        starting = spec.get("startupProbe") and not entry.get("started", True)
        probe = "startup" if starting else "readiness"
        because = f": its {probe} probe fails" if spec.get(f"{probe}Probe") else ""
        said.append(f"container {name} runs but is not ready{because}")
    return said


def last_end(entry: Object) -> Object:
    found: Object = dig(entry, "lastState", "terminated") or {}
    return found


def since(end: Object) -> timedelta:
    """How long ago a container ended; a long time when nobody kept it."""
    try:
        return datetime.now(UTC) - datetime.fromisoformat(str(end.get("finishedAt")))
    except (TypeError, ValueError):
        return timedelta.max


def ended(state: Object) -> str:
    code = int(state.get("exitCode") or 0)
    meaning = {137: " (killed: SIGKILL)", 143: " (SIGTERM)", 139: " (segmentation fault)", 127: " (command not found)"}
    reason, when = state.get("reason", "no reason"), age(state.get("finishedAt"))
    said = f"exit code {code}{meaning.get(code, '')}, {reason}, {when} ago"
    return said + (f": {outside(state['message'])}" if state.get("message") else "")


def _container(pod: Object, spec: Object, init: bool) -> ContainerSaid:
    entry = statuses(pod).get(spec["name"]) or {}
    state = entry.get("state") or {}
    if "running" in state:
        said = f"running since {age(state['running'].get('startedAt'))}"
    elif "terminated" in state:
        said = f"ended: {ended(state['terminated'])}"
    elif "waiting" in state:
        said = f"waiting: {state['waiting'].get('reason', '')} {outside(state['waiting'].get('message', ''))}".strip()
    else:
        said = "not started"
    last = last_end(entry)
    limits = spec.get("resources") or {}
    resources_said = "; ".join(
        f"{group} " + ", ".join(f"{key}={value}" for key, value in values.items())
        for group in ("requests", "limits")
        if (values := limits.get(group))
    )
    probes = [
        kind.removesuffix("Probe") for kind in ("startupProbe", "readinessProbe", "livenessProbe") if spec.get(kind)
    ]
    return ContainerSaid(
        name=spec["name"] + (" (init)" if init else ""),
        image=outside(spec.get("image", ""), 160),
        state=said,
        last_state=ended(last) if last else None,
        restarts=entry.get("restartCount", 0),
        ready=bool(entry.get("ready")),
        resources=resources_said or None,
        probes=", ".join(probes) or None,
        env_names=[str(v.get("name")) for v in (spec.get("env") or [])[:30]] or None,
    )


def _condition(condition: Object) -> str:
    said = f"{condition['type']}={condition['status']}"
    if condition["status"] != "True" and condition.get("reason"):
        said += f" ({condition['reason']}: {outside(condition.get('message', ''), 160)})"
    return said


def _row(pod: Object) -> PodRow:
    """The table's cells, made here, for servers that send no tables and for single pods."""
    entries = dig(pod, "status", "containerStatuses") or []
    status = str(dig(pod, "status", "reason") or dig(pod, "status", "phase") or "Unknown")
    for entry in entries:
        state = entry.get("state") or {}
        reason = dig(state, "waiting", "reason") or dig(state, "terminated", "reason")
        if reason:
            status = reason
    for entry in dig(pod, "status", "initContainerStatuses") or []:
        reason = dig(entry, "state", "waiting", "reason")
        if reason and reason != "PodInitializing":
            status = f"Init:{reason}"
    if pod["metadata"].get("deletionTimestamp"):
        status = "Terminating"
    return PodRow(
        name=pod["metadata"]["name"],
        ready=f"{sum(1 for e in entries if e.get('ready'))}/{len(dig(pod, 'spec', 'containers') or [])}",
        status=status,
        restarts=str(sum(e.get("restartCount", 0) for e in entries)),
        age=age(pod["metadata"].get("creationTimestamp")),
    )
