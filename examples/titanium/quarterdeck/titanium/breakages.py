"""Breaks any service of the practice system in any way: what the named faults are made of, for whom it has to be more.

breakages.set_image(world, "user-service", "9.9.9")
breakages.autoscaler(world, "auth-service", most=2)
breakages.renew(world)     # everything as it was at the start, fresh pods, no events
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from quarterdeck.titanium import system
from quarterdeck.titanium.cluster import NAMESPACE
from quarterdeck.titanium.images import Behaviour
from quarterdeck.titanium.kubelet import Run
from quarterdeck.titanium.traffic import STEADY

if TYPE_CHECKING:
    from quarterdeck.titanium.world import World

Object = dict[str, Any]
MADE = ("Event", "HorizontalPodAutoscaler", "ResourceQuota", "Deployment", "ReplicaSet", "Pod")


def change_container(world: World, service: str, alter: Callable[[Object], None]) -> None:
    """A new revision of a service."""
    world.remember(service)
    world.cluster.change("Deployment", service, lambda d: alter(d["spec"]["template"]["spec"]["containers"][0]))


def set_image(world: World, service: str, tag: str) -> str:
    name = f"{system.image(system.BY_NAME[service]).rpartition(':')[0]}:{tag}"
    change_container(world, service, lambda container: container.update(image=name))
    return name


def set_env(world: World, service: str, name: str, **source: Any) -> None:
    """`value="…"`, or `valueFrom={"secretKeyRef": {…}}`."""

    def alter(container: Object) -> None:
        container["env"] = [*(v for v in container["env"] if v["name"] != name), {"name": name, **source}]

    change_container(world, service, alter)


def bad_release(world: World, service: str, tag: str, **behaviour: Any) -> None:
    """A new revision whose containers behave like this, while those of the old one are well."""
    world.behave(service, Behaviour(**behaviour, only_image=set_image(world, service, tag)))


def scale(world: World, service: str, replicas: int) -> None:
    world.remember(service)
    world.cluster.change("Deployment", service, lambda d: d["spec"].update(replicas=replicas))


def request(world: World, service: str, cpu: str, memory: str = "64Mi") -> None:
    wanted = {"cpu": cpu, "memory": memory}
    change_container(world, service, lambda c: c["resources"].update(requests=wanted, limits=wanted))


def select_node(world: World, service: str, **labels: str) -> None:
    world.remember(service)
    world.cluster.change("Deployment", service, lambda d: d["spec"]["template"]["spec"].update(nodeSelector=labels))


def taint_nodes(world: World, key: str, value: str, *, replace_pods_of: str) -> None:
    """All nodes keep new pods off, and one service has to start anew."""
    taint = {"key": key, "value": value, "effect": "NoSchedule"}
    for node in _all(world, "Node"):
        world.cluster.change("Node", node["metadata"]["name"], lambda n: n["spec"].update(taints=[taint]), namespace="")
    for pod in pods_of(world, replace_pods_of):
        world.cluster.delete("Pod", pod["metadata"]["name"])


def untaint_nodes(world: World) -> None:
    for node in _all(world, "Node"):
        world.cluster.change("Node", node["metadata"]["name"], lambda n: n["spec"].pop("taints", None), namespace="")


def autoscaler(world: World, service: str, most: int, now: int | None = None) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": service}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": most}
    status = {"currentReplicas": most if now is None else now, "desiredReplicas": most if now is None else now}
    world.cluster.create("HorizontalPodAutoscaler", service, spec=spec, status=status)


def quota(world: World, pods: int) -> None:
    hard = {"pods": str(pods)}
    world.cluster.create("ResourceQuota", "compute", spec={"hard": hard}, status={"hard": hard, "used": hard})


def rush(world: World, rate: float, seconds: int = 20) -> None:
    """Traffic has been so high for some seconds, and stays."""
    traffic = world.traffic
    latest = traffic.last(seconds)
    for _ in latest:
        traffic.seconds.pop()
    traffic.level = traffic.target = rate
    for second in latest:
        traffic.step(second.at)


def calm(world: World) -> None:
    """As if the rush had never been."""
    traffic = world.traffic
    traffic.level = traffic.target = STEADY
    kept = list(traffic.seconds)
    traffic.seconds.clear()
    for second in kept:
        traffic.step(second.at)


def said_before(world: World, service: str, line: str, minutes: float, times: int = 1) -> None:
    """The service has written this line so long ago, and now and then since, if it is several times."""
    for run in _runs(world, service):
        for number in range(times):
            ago = timedelta(minutes=minutes * (times - number) / times)
            run.log.append((datetime.now(UTC) - ago, line))
        ordered = sorted(run.log)
        run.log.clear()
        run.log.extend(ordered)


def restarted_before(world: World, service: str, minutes: float) -> None:
    """One container of the service restarted once, so long ago, and is well since."""
    run = next(iter(_runs(world, service)))
    ended = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    run.attempt += 1
    run.last = {"exitCode": 0, "reason": "Completed", "startedAt": ended, "finishedAt": ended}


def renew(world: World) -> None:
    """No fault, and every pod, revision and event gone; the system starts anew."""
    world.active.clear()
    world.runtime.behaviours.clear()
    world._kept.clear()
    world._cures.clear()
    world.runtime.missing.clear()
    calm(world)
    for node in _all(world, "Node"):

        def well(n: Object) -> None:
            n["spec"] = {}
            for condition in n["status"]["conditions"]:
                condition["status"] = "True" if condition["type"] == "Ready" else "False"

        world.cluster.change("Node", node["metadata"]["name"], well, namespace="")
    for kind in MADE:
        for object in _all(world, kind):
            if kind == "Pod":
                world.cluster.kubelet.held.pop(object["metadata"]["uid"], None)
            world.cluster.delete(kind, object["metadata"]["name"], object["metadata"].get("namespace", NAMESPACE))
    for service in _all(world, "Service"):
        if service["metadata"]["name"] not in system.BY_NAME:
            world.cluster.delete("Service", service["metadata"]["name"])
    for part in system.PARTS:
        world.cluster.create("Deployment", part.name, **copy.deepcopy(system.deployment(part)))


def settled(world: World) -> bool:
    """Every pod that is wanted is there and ready, and no other."""
    wanted = sum(deployment["spec"].get("replicas", 1) for deployment in _all(world, "Deployment"))
    return world.all_ready() and len(_all(world, "Pod")) == wanted


def pods_of(world: World, service: str) -> list[Object]:
    return [pod for pod in _all(world, "Pod") if (pod["metadata"].get("labels") or {}).get("app") == service]


def _runs(world: World, service: str) -> list[Run]:
    held = world.cluster.kubelet.held.values()
    return [run for one in held for run in one.runs if run.name == service]


def _all(world: World, kind: str) -> list[Object]:
    found = world.cluster.kinds.named(kind)
    assert found is not None
    return world.cluster.store.all(found)
