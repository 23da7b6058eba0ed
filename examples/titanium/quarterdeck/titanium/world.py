"""The practice world: cluster, services, traffic, faults, and the APIs that tools look at it through, in one loop."""

from __future__ import annotations

import asyncio
import copy
import time
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from quarterdeck.titanium import promapi, system
from quarterdeck.titanium.cluster import NAMESPACE, Cluster
from quarterdeck.titanium.faults import FAULTS
from quarterdeck.titanium.images import Behaviour, Runtime
from quarterdeck.titanium.lokiapi import LokiApi
from quarterdeck.titanium.services import Listener, Services
from quarterdeck.titanium.store import timestamp
from quarterdeck.titanium.traffic import STEADY, Traffic

Object = dict[str, Any]
TICK_S = 0.1


class World:
    """Everything runs in the event loop that starts it; `story.practice_world` puts that into a thread."""

    def __init__(self, *, speed: float = 4.0, free_ports: bool = True, seed: int = 7, nodes: int = 3) -> None:
        self.runtime = Runtime(seed)
        self.cluster = Cluster(speed=speed, runtime=self.runtime, nodes=nodes)
        self.traffic = Traffic(seed, time.time())
        self.services = Services(self.traffic, self._ready, free=free_ports)
        self.runtime.down = lambda name: not self._ready(name)
        self.runtime.healed = self._healed
        self.active: list[str] = []
        self._kept: dict[str, Object] = {}
        self._cures: dict[str, str] = {}
        """Service → the template annotation time after which a restart has cured it."""
        self._task: asyncio.Task[None] | None = None
        self.prometheus = Listener(0, promapi.PromApi(self).handle)
        self.loki = Listener(0, LokiApi(self.cluster).handle)
        self.control = Listener(0, self._control)

    async def start(self) -> None:
        await self.cluster.start()
        system.install(self.cluster)
        for listener in (self.prometheus, self.loki, self.control):
            await listener.open()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.services.stop()
        for listener in (self.prometheus, self.loki, self.control):
            await listener.stop()
        await self.cluster.stop()

    async def _run(self) -> None:
        last = int(time.time())
        while True:
            await self.services.tick()
            now = int(time.time())
            for second in range(last + 1, now + 1):
                down = [part.name for part in system.PARTS if part.http and not self._ready(part.name)]
                self.traffic.failing = min(0.9, 0.3 * len(down))
                self.traffic.slowness = 1.0 + 1.5 * len(down)
                self.traffic.step(float(second))
            last = max(last, now)
            await asyncio.sleep(TICK_S)

    def all_ready(self) -> bool:
        return all(self._ready(part.name) >= part.replicas for part in system.PARTS) and all(
            listener.is_open for listener in self.services._listeners.values()
        )

    def _ready(self, name: str) -> int:
        return len(self.cluster.controllers.ready_pods(NAMESPACE, name))

    # Faults

    def inject(self, name: str) -> None:
        if name not in FAULTS:
            raise KeyError(f"There is no fault {name!r}. There are: {', '.join(FAULTS)}.")
        if name not in self.active:
            FAULTS[name].inject(self)
            self.active.append(name)

    def clear(self, name: str | None = None) -> None:
        for one in [name] if name else list(self.active):
            if one in self.active:
                FAULTS[one].clear(self)
                self.active.remove(one)

    def calm(self) -> None:
        self.traffic.target = STEADY

    def behave(self, service: str, behaviour: Behaviour | None) -> None:
        self._cures.pop(service, None)
        if behaviour is None:
            self.runtime.behaviours.pop(service, None)
        else:
            self.runtime.behaviours[service] = behaviour

    def cured_by_restart(self, service: str) -> None:
        """From now on pods of a later rollout are well: the stale lock belongs to the old ones."""
        self._cures[service] = self._stamp(self.cluster.get("Deployment", service) or {})

    def _healed(self, name: str, pod: Object) -> bool:
        if name not in self._cures:
            return False
        return self._stamp({"spec": {"template": pod}}) != self._cures[name]

    @staticmethod
    def _stamp(deployment: Object) -> str:
        metadata = deployment.get("spec", {}).get("template", {}).get("metadata", {})
        return str((metadata.get("annotations") or {}).get("kubectl.kubernetes.io/restartedAt", ""))

    def remember(self, service: str) -> None:
        found = self.cluster.get("Deployment", service)
        if found is not None and service not in self._kept:
            self._kept[service] = copy.deepcopy(found["spec"])

    def restore(self, service: str) -> None:
        spec = self._kept.pop(service, None)
        if spec is not None:
            self.cluster.change("Deployment", service, lambda d: d.update(spec=spec))

    def node_condition(self, node: str, type: str, status: str, reason: str, message: str) -> None:
        now = timestamp()

        def alter(n: Object) -> None:
            for condition in n["status"]["conditions"]:
                if condition["type"] == type:
                    condition.update(status=status, reason=reason, message=message, lastTransitionTime=now)

        self.cluster.change("Node", node, alter, namespace="")
        if type == "Ready" and status != "True":
            self._lose_pods(node)
        elif type == "Ready":
            for held in self.cluster.kubelet.held.values():
                if held.pod["spec"].get("nodeName") == node:
                    held.written = None  # the kubelet tells anew how its pods are

    def _lose_pods(self, node: str) -> None:
        """Pods of a lost node are not ready any more, as the node controller marks them."""
        kind = self.cluster.kinds.named("Pod")
        assert kind is not None
        for pod in self.cluster.store.all(kind):
            if pod["spec"].get("nodeName") != node:
                continue

            def alter(p: Object) -> None:
                for condition in p.get("status", {}).get("conditions") or []:
                    if condition["type"] == "Ready":
                        condition.update(status="False", reason="NodeNotReady", lastTransitionTime=timestamp())

            self.cluster.store.change(kind, pod, alter)

    # Addresses

    def environment(self, kubeconfig: Path) -> dict[str, str]:
        """Settings that point Quarterdeck's servers at this world."""
        ports = self.services.ports
        health = {part.key: f"http://127.0.0.1:{ports[part.name]}/health" for part in system.PARTS if part.key}
        health["load-balancer"] = f"http://127.0.0.1:{ports['load-balancer']}/lb-health"
        return {
            "QUARTERDECK_STATS_URL": f"http://127.0.0.1:{ports['load-balancer']}",
            "QUARTERDECK_STATS_SERVICES": ",".join(f"{name}={url}" for name, url in health.items()),
            "QUARTERDECK_STATS_PROMETHEUS_URL": f"http://127.0.0.1:{self.prometheus.port}",
            "QUARTERDECK_LOGS_LOKI_URL": f"http://127.0.0.1:{self.loki.port}",
            "QUARTERDECK_KUBECTL_KUBECONFIG": str(kubeconfig),
        }

    async def _control(self, method: str, target: str) -> tuple[int, Any]:
        """POST /inject/NAME, POST /clear[/NAME], GET /: for the command line."""
        verb, _, name = target.strip("/").partition("/")
        if method == "POST" and verb in ("inject", "clear") and (name or verb == "inject") and name not in FAULTS:
            near = get_close_matches(name, FAULTS, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            return 404, {"error": f"There is no fault {name[:60]!r}.{meant} `quarterdeck world faults` lists them."}
        if method == "POST" and verb == "inject":
            self.inject(name)
        elif method == "POST" and verb == "clear":
            self.clear(name or None)
        elif method != "GET" or verb:
            return 404, {"error": "There is GET /, POST /inject/FAULT, POST /clear and POST /clear/FAULT."}
        return 200, {"active": self.active, "faults": {fault.name: fault.words for fault in FAULTS.values()}}
