"""What the kubectl server tells, put into the scene."""

from __future__ import annotations

import re
from typing import Any

from quarterdeck.agents.remediation import names
from quarterdeck.agents.remediation.fields import dig, rows, span, string, strings, table, whole
from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.scene import Event, Pod, Problem, Revision, Scene, Workload


def resources(scene: Scene, one: Evidence) -> None:
    kind = string(one.data, "kind")
    for row in table(one.data):
        name = row.get("name", "")
        if not name:
            continue
        if kind in ("deployments", "statefulsets"):
            have, _, wanted = row.get("ready", "").partition("/")
            workload = scene.workloads.setdefault(name, Workload(name))
            workload.kind = "StatefulSet" if kind == "statefulsets" else "Deployment"
            workload.ready, workload.wanted = _int(have), _int(wanted)
            workload.cites.append(one.id)
        elif kind == "services":
            address = row.get("cluster-ip", "")
            scene.services[name] = address if names.is_address(address) else ""
            for port in re.findall(r"\d{1,5}(?=[:/]|$)", row.get("port(s)", "")):
                scene.ports.setdefault(int(port), []).append(name)
        elif kind == "endpoints" and row.get("endpoints", "") in ("", "<none>"):
            scene.empty[name] = one.id
        elif kind == "nodes":
            scene.nodes[name] = row.get("status", "")
        elif kind == "horizontalpodautoscalers":
            target = row.get("reference", "").rpartition("/")[2]
            most, now = _int(row.get("maxpods", "")), _int(row.get("replicas", ""))
            if target and most is not None and now is not None:
                scene.scalers[name] = (target, most, now, one.id)


def _int(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def pods(scene: Scene, one: Evidence) -> None:
    listed = rows(one.data, "pods")
    scene.all_pods_listed |= whole(one.data, "total") == len(listed) > 0
    for row in listed:
        name = string(row, "name")
        service, hashed = owner(scene, name)
        have, _, wanted = string(row, "ready").partition("/")
        count, _, since = string(row, "restarts").partition("(")
        scene.pods.append(
            Pod(
                name=name,
                service=service,
                hash=hashed,
                ready=have == wanted and bool(wanted),
                status=string(row, "status"),
                restarts=_int(count.strip()) or 0,
                restarted_s=span(since) if since else None,
                age_s=span(string(row, "age")),
                cite=one.id,
            )
        )


def owner(scene: Scene, pod: str) -> tuple[str, str]:
    """The workload of a pod and the hash of its replica set: as the cluster says, else by a name as only that kind of
    workload gives. A pod that merely begins alike is a service of its own: nobody else is restarted for it."""
    name, hashed = names.stem(pod)
    if (told := scene.owners.get(pod)) is not None:
        return told, hashed or pod.removeprefix(f"{told}-").partition("-")[0] if pod.startswith(f"{told}-") else ""
    for known, workload in scene.workloads.items():
        if (found := names.made_by(pod, known, workload.kind)) is not None:
            return known, found
    return (pod if name in scene.workloads else name), hashed


def owners(scene: Scene, one: Evidence) -> None:
    """What find_problems says of whose a pod is."""
    for row in rows(one.data, "problems"):
        kind, _, name = string(row, "what").partition(" ")
        if kind in _MAKERS:
            for said in strings(row, "evidence"):
                if found := _POD_SAID.match(said):
                    scene.owners[found[1]] = owned(scene, kind, name)
        elif kind == "Pod":
            scene.owners[name] = owned(scene, kind, name)


_MAKERS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job", "pods"})
_POD_SAID = re.compile(r"pod (\S{1,253}): ")


def owned(scene: Scene, kind: str, name: str) -> str:
    """The service that an object belongs to. One of another kind than the deployment of that name is not it."""
    name = name.removesuffix("-…").strip()
    if name in scene.workloads and scene.workloads[name].kind != kind:
        return f"{kind} {name}"
    return name


def rollout(scene: Scene, one: Evidence) -> None:
    name = string(one.data, "deployment")
    if not name:
        return
    workload = scene.workloads.setdefault(name, Workload(name))
    workload.rollout, workload.why = string(one.data, "state"), strings(one.data, "why")
    workload.updated = whole(one.data, "updated")
    workload.wanted, workload.ready = whole(one.data, "desired"), whole(one.data, "available")
    workload.cites.append(one.id)


def history(scene: Scene, one: Evidence) -> None:
    name = string(one.data, "deployment")
    if not name:
        return
    workload = scene.workloads.setdefault(name, Workload(name))
    workload.revisions = sorted(
        (
            Revision(
                whole(row, "revision"),
                dig(row, "current") is True,
                strings(row, "images"),
                span(string(row, "created")),
                string(row, "changed"),
                whole(row, "ready_pods"),
            )
            for row in rows(one.data, "revisions")
        ),
        key=lambda r: -r.number,
    )
    workload.cites.append(one.id)


def problems(scene: Scene, one: Evidence) -> None:
    for row in rows(one.data, "problems"):
        what = string(row, "what")
        kind, _, name = what.partition(" ")
        name = name.removesuffix("-…").strip() or what
        if kind == "ReplicaSet":
            name = names.replica_set(name)[0]
        elif kind in ("Pod", "Job", "DaemonSet", "StatefulSet") or (kind == "pods" and strings(row, "evidence")):
            name = owned(scene, kind, name)
        if kind in ("Deployment", "StatefulSet", "DaemonSet") and name not in scene.workloads:
            scene.workloads[name] = Workload(name, kind)
        scene.problems.append(
            Problem(
                what=what,
                name=name,
                reason=string(row, "reason"),
                detail=string(row, "detail"),
                evidence=tuple(strings(row, "evidence")),
                severity=string(row, "severity"),
                cite=one.id,
            )
        )


def described(scene: Scene, one: Evidence) -> None:
    name = string(one.data, "name")
    pod = next((p for p in scene.pods if p.name == name), None)
    if pod is None:
        service, hashed = owner(scene, name)
        pod = Pod(name, service, hashed, True, "", 0, None, None, one.id)
        if name:
            scene.pods.append(pod)
    if said := string(one.data, "owner"):
        maker, _, maker_name = said.partition(" ")
        if maker == "none":
            pod.service = scene.owners[name] = f"Pod {name}" if name in scene.workloads else name
        elif maker != "ReplicaSet":
            pod.service = scene.owners[name] = owned(scene, maker, maker_name)
        elif "-" in maker_name:
            # The name of the replica set is that of its deployment and the hash.
            pod.service, _, pod.hash = maker_name.rpartition("-")
            scene.owners[name] = pod.service
    pod.cite = one.id
    pod.node = string(one.data, "node")
    pod.why = strings(one.data, "why_unhealthy")
    pod.env = [name for c in rows(one.data, "containers") for name in strings(c, "env_names")]
    pod.ends = [string(c, "last_state") or string(c, "state") for c in rows(one.data, "containers")]
    for row in rows(one.data, "events"):
        scene.events.append(_event(scene, row, one.id))


_ABOUT_POD = re.compile(r"Pod (\S+)")


def _event(scene: Scene, row: dict[str, Any], cite: str) -> Event:
    kind, _, name = string(row, "about").partition(" ")
    service = name
    if kind == "Pod":
        service = owner(scene, name)[0]
    elif kind == "ReplicaSet":
        service = names.replica_set(name)[0]
    return Event(
        reason=string(row, "reason"),
        kind=kind,
        about=name,
        service=service,
        message=string(row, "message"),
        count=max(1, whole(row, "count")),
        age_s=span(string(row, "last_seen")),
        cite=cite,
        warning=string(row, "type") == "Warning",
        first_s=span(string(row, "first_seen")),
    )


def events(scene: Scene, one: Evidence) -> None:
    living = {pod.name for pod in scene.pods}
    for row in rows(one.data, "events"):
        event = _event(scene, row, one.id)
        if event.kind == "Pod" and scene.all_pods_listed and event.about not in living:
            continue  # of a pod that is gone: its troubles went with it
        scene.events.append(event)


def usage(scene: Scene, one: Evidence) -> None:
    for row in rows(one.data, "rows"):
        if note := string(row, "note"):
            scene.memory[string(row, "name")] = (note, one.id)
