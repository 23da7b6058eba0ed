"""One cluster: its store, API, controllers and kubelet, served on loopback."""

from __future__ import annotations

import asyncio
import base64
import socket
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
import yaml

from quarterdeck.titanium import certificates
from quarterdeck.titanium.access import MASTERS, User
from quarterdeck.titanium.controllers import Controllers
from quarterdeck.titanium.events import Recorder
from quarterdeck.titanium.http import Api
from quarterdeck.titanium.kinds import Kinds
from quarterdeck.titanium.kubelet import IdleRuntime, Kubelet, Runtime
from quarterdeck.titanium.store import Store, timestamp
from quarterdeck.titanium.weather import Weather
from quarterdeck.titanium.workloads import Workloads

Object = dict[str, Any]
NAMESPACE = "titanium-local"
TOKENS = {
    "titanium-admin": User("admin", (MASTERS,)),
    "titanium-viewer": User("viewer"),
    "titanium-nobody": User("nobody"),
}
READ = ["get", "list", "watch"]
VIEW_RULES = [
    {
        "apiGroups": ["", "apps", "batch", "autoscaling", "networking.k8s.io", "policy", "metrics.k8s.io"],
        "resources": [
            "pods", "pods/log", "pods/status", "services", "endpoints", "configmaps", "events",
            "persistentvolumeclaims", "serviceaccounts", "resourcequotas", "limitranges", "replicasets", "deployments",
            "statefulsets", "daemonsets", "deployments/scale", "replicasets/scale", "jobs", "cronjobs",
            "horizontalpodautoscalers", "ingresses",
            "networkpolicies", "poddisruptionbudgets", "controllerrevisions",
        ],
        "verbs": READ,
    },
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
]  # fmt: skip


class Cluster:
    """Start with `await start()`, end with `await stop()`."""

    def __init__(self, *, speed: float = 1.0, runtime: Runtime | None = None, nodes: int = 3, port: int = 0) -> None:
        self.kinds, self.store, self.weather = Kinds(), Store(), Weather()
        self.record = Recorder(self.store, self.kinds)
        self.kubelet = Kubelet(self.store, self.kinds, self.record, runtime or IdleRuntime())
        self.controllers = Controllers(self.store, self.kinds, self.kubelet, self.record, speed)
        self._workloads = Workloads(self.store, self.kinds, self.record)
        self.api = Api(self.store, self.kinds, dict(TOKENS), self.kubelet, self._workloads, self.weather)
        self._nodes, self._port = nodes, port
        self._server: uvicorn.Server | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.certificate = b""
        self.url = ""

    async def start(self) -> None:
        self._furnish()
        self._folder = tempfile.TemporaryDirectory(prefix="titanium-")
        certificate, key = certificates.make(Path(self._folder.name))
        self.certificate = certificate.read_bytes()
        listener = socket.socket(proto=socket.IPPROTO_TCP)  # or asyncio sets no TCP_NODELAY
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            self.api,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
            access_log=False,
            ssl_certfile=certificate,
            ssl_keyfile=str(key),
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets=[listener])),
            asyncio.create_task(self.controllers.run()),
        ]
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await asyncio.wait([self._tasks[0]], timeout=3)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._folder is not None:
            self._folder.cleanup()

    def create(self, kind: str, name: str, namespace: str = "", **body: Any) -> Object:
        """Put an object in place, as the cluster's owner would with kubectl."""
        from quarterdeck.titanium import defaults

        found = self.kinds.named(kind)
        assert found is not None
        metadata = {"name": name, **body.pop("metadata", {})}
        if found.namespaced:
            metadata["namespace"] = namespace or NAMESPACE
        object = {"apiVersion": found.api_version, "kind": kind, "metadata": metadata, **body}
        defaults.fill(kind, object)
        return self.store.create(found, object)

    def get(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        found = self.kinds.named(kind)
        assert found is not None
        return self.store.find(found, namespace, name)

    def change(self, kind: str, name: str, alter: Any, namespace: str = NAMESPACE) -> Object | None:
        found = self.kinds.named(kind)
        object = self.get(kind, name, namespace)
        if object is None or found is None:
            return None
        return self.store.change(found, object, alter)

    def delete(self, kind: str, name: str, namespace: str = NAMESPACE) -> None:
        found = self.kinds.named(kind)
        object = self.get(kind, name, namespace)
        if object is not None and found is not None:
            self.store.remove(found, object)

    def write_kubeconfig(self, path: Path) -> Path:
        authority = base64.b64encode(self.certificate).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "titanium", "cluster": cluster}],
            "users": [{"name": token, "user": {"token": token}} for token in TOKENS],
            "contexts": [
                {
                    "name": "titanium" if token == "titanium-admin" else token,
                    "context": {"cluster": "titanium", "user": token, "namespace": NAMESPACE},
                }
                for token in TOKENS
            ],
            "current-context": "titanium",
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    def _furnish(self) -> None:
        for name in ("default", "kube-system", NAMESPACE):
            self.create("Namespace", name)
        for number in range(1, self._nodes + 1):
            self.create("Node", f"titanium-node-{number}", spec={}, **_node(number))
        self.create("ClusterRole", "view", rules=VIEW_RULES)
        self.create("ClusterRole", "cluster-admin", rules=[{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
        self.create(
            "RoleBinding",
            "viewers",
            NAMESPACE,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            subjects=[{"kind": "User", "name": "viewer", "apiGroup": "rbac.authorization.k8s.io"}],
        )


def _node(number: int) -> Object:
    def condition(type: str, status: str, reason: str, message: str) -> Object:
        now = timestamp()
        return {
            "type": type, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }  # fmt: skip

    capacity = {"cpu": "4", "memory": "8Gi", "pods": "5000", "ephemeral-storage": "50Gi"}
    name = f"titanium-node-{number}"
    return {
        "metadata": {"labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "addresses": [
                {"type": "InternalIP", "address": f"192.168.49.{number + 1}"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.32.0+titanium", "osImage": "practice", "kernelVersion": "6.1.0",
                "containerRuntimeVersion": "containerd://1.7.0", "architecture": "amd64", "operatingSystem": "linux",
                "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": "",
            },
        },
    }  # fmt: skip
