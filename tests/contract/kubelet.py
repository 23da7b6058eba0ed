"""A small kubelet for real API servers that have none: two nodes, pods, logs, metrics.

    python tests/contract/kubelet.py KUBECONFIG        # runs until it is stopped

Images decide what happens, as in the practice world's contract runtime: `qd/crash`, `qd/oom`, `qd/missing` and
`qd/notready` fail in their way; all others run and are ready.
"""

from __future__ import annotations

import json
import ssl
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import yaml

from quarterdeck.titanium import certificates

Object = dict[str, Any]
NODES = ("contract-node-1", "contract-node-2")
LINES = [f"line {number} of the log" for number in range(1, 11)]
LAST_WORDS = [
    "starting",
    "Traceback (most recent call last):",
    '  File "app.py", line 1, in <module>',
    "ValueError: boom",
]
TICK_S = 0.3


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def api(kubeconfig: Path) -> httpx.Client:
    config = yaml.safe_load(kubeconfig.read_text())
    name = config["current-context"]
    context = next(c["context"] for c in config["contexts"] if c["name"] == name)
    server = next(c["cluster"]["server"] for c in config["clusters"] if c["name"] == context["cluster"])
    token = next(u["user"]["token"] for u in config["users"] if u["name"] == context["user"])
    return httpx.Client(base_url=server, headers={"Authorization": f"Bearer {token}"}, verify=False, timeout=20)


class Kubelet:
    def __init__(self, kubeconfig: Path) -> None:
        self._http = api(kubeconfig)
        self._folder = tempfile.TemporaryDirectory(prefix="contract-kubelet-")
        self._seen: dict[str, float] = {}
        self._done = threading.Event()
        self._server = self._serve()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=self._loop, daemon=True),
        ]

    def __enter__(self) -> Kubelet:
        for name in NODES:
            self._register(name)
        self._publish_metrics()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=5)
        self._http.close()
        self._folder.cleanup()

    # The node

    def _register(self, name: str) -> None:
        labels = {"kubernetes.io/hostname": name}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        self._http.post("/api/v1/nodes", json=node)
        # Nodes are born with a taint where the node-lifecycle controller runs; nobody else would take it away.
        merge = {"Content-Type": "application/merge-patch+json"}
        patch = {"spec": {"taints": None, "unschedulable": None}}
        self._http.patch(f"/api/v1/nodes/{name}", content=json.dumps(patch), headers=merge)
        self._heartbeat(name)

    def _heartbeat(self, name: str) -> None:
        capacity = {"cpu": "4", "memory": "8Gi", "pods": "200"}
        condition = {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_port}},
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready", **condition}
            ],
            "nodeInfo": dict.fromkeys(
                ("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID",
                 "operatingSystem", "osImage", "systemUUID"), "contract") | {"kubeletVersion": "v1.20.0"},
        }  # fmt: skip
        self._patch(f"/api/v1/nodes/{name}/status", {"status": status})

    def _patch(self, path: str, body: Object) -> None:
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        self._http.patch(path, content=json.dumps(body), headers=headers)

    # Pods

    def _loop(self) -> None:
        beat = time.monotonic()
        while not self._done.wait(TICK_S):
            if time.monotonic() - beat > 5:
                beat = time.monotonic()
                for name in NODES:
                    self._heartbeat(name)
            try:
                for pod in self._http.get("/api/v1/pods").json().get("items") or []:
                    if pod["spec"].get("nodeName") in NODES:
                        self._tend(pod)
            except httpx.TransportError:
                continue  # the server is busy; the next round tries again

    def _tend(self, pod: Object) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if metadata.get("deletionTimestamp"):
            self._http.request(
                "DELETE", path, json={"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            )
            return
        first = self._seen.setdefault(metadata["uid"], time.monotonic())
        age = time.monotonic() - first
        stage = 0 if age < 0.5 else 1 if age < 1.5 else 2
        if self._seen.get(metadata["uid"] + "/stage") == stage:
            return
        self._seen[metadata["uid"] + "/stage"] = stage
        self._patch(f"{path}/status", {"status": self._status(pod, stage)})

    def _status(self, pod: Object, stage: int) -> Object:
        statuses = [self._container(pod, spec, stage) for spec in pod["spec"]["containers"]]
        ready = all(status["ready"] for status in statuses)
        started = any("running" in s["state"] or s["restartCount"] for s in statuses)
        condition = {"lastTransitionTime": now()}
        unready = [status["name"] for status in statuses if not status["ready"]]
        why = {} if ready else {"reason": "ContainersNotReady", "message": f"containers with unready status: {unready}"}
        return {
            "phase": "Running" if started else "Pending",
            "podIP": "10.0.0.1",
            "hostIP": "127.0.0.1",
            "startTime": pod["status"].get("startTime") or now(),
            "containerStatuses": statuses,
            "conditions": [
                {"type": "Initialized", "status": "True", **condition},
                {"type": "Ready", "status": "True" if ready else "False", **why, **condition},
                {"type": "ContainersReady", "status": "True" if ready else "False", **why, **condition},
            ],
        }

    def _container(self, pod: Object, spec: Object, stage: int) -> Object:
        image = spec["image"]
        status: Object = {"name": spec["name"], "image": image, "imageID": "", "ready": False, "restartCount": 0}
        if stage == 0:
            return {**status, "state": {"waiting": {"reason": "ContainerCreating"}}}
        if image.startswith("qd/missing"):
            words = f'Back-off pulling image "{image}"'
            self._event(pod, "Warning", "Failed", f'Failed to pull image "{image}": not found')
            return {**status, "state": {"waiting": {"reason": "ImagePullBackOff", "message": words}}}
        if image.startswith(("qd/crash", "qd/oom")):
            reason, code = ("OOMKilled", 137) if image.startswith("qd/oom") else ("Error", 1)
            ended = {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}
            name = pod["metadata"]["name"]
            words = f"back-off 10s restarting failed container={spec['name']} pod={name}"
            self._event(pod, "Warning", "BackOff", "Back-off restarting failed container")
            return {
                **status,
                "restartCount": stage,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": words}},
                "lastState": {"terminated": ended},
            }
        running = {**status, "state": {"running": {"startedAt": now()}}}
        if image.startswith("qd/notready"):
            self._event(pod, "Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
            return running
        return {**running, "ready": True}

    def _event(self, pod: Object, type: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        about = {"apiVersion": "v1", "kind": "Pod", "uid": metadata["uid"]}
        about |= {"name": metadata["name"], "namespace": metadata["namespace"]}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": about,
            "type": type,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "source": {"component": "kubelet"},
        }
        self._http.post(f"/api/v1/namespaces/{metadata['namespace']}/events", json=event)

    # What it serves

    def _publish_metrics(self) -> None:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "contract-metrics", "namespace": "kube-system"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }
        self._http.post("/api/v1/namespaces/kube-system/services", json=service)
        reference = {"name": "contract-metrics", "namespace": "kube-system", "port": self._server.server_port}
        spec = {"group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": True, "service": reference}
        spec |= {"groupPriorityMinimum": 100, "versionPriority": 100}
        name = "v1beta1.metrics.k8s.io"
        whole = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": name},
            "spec": spec,
        }
        root = "/apis/apiregistration.k8s.io/v1/apiservices"
        self._http.delete(f"{root}/{name}")
        self._http.post(root, json=whole)

    def _serve(self) -> ThreadingHTTPServer:
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kubelet._reply(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        certificate, key = certificates.make(Path(self._folder.name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # The handshake belongs to each connection's thread: a silent client must not hold up the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return server

    def _reply(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.startswith("/containerLogs/"):
            body, kind = self._log(url.path, query).encode(), "text/plain"
        elif url.path.startswith("/apis/metrics.k8s.io"):
            body, kind = json.dumps(self._metrics(url.path)).encode(), "application/json"
        else:
            body, kind = b"{}", "application/json"
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _log(self, path: str, query: dict[str, str]) -> str:
        _, _, namespace, name, _ = path.split("/")
        pod = self._http.get(f"/api/v1/namespaces/{namespace}/pods/{name}").json()
        crashed = any(c["image"].startswith(("qd/crash", "qd/oom")) for c in pod["spec"]["containers"])
        lines = list(LAST_WORDS if crashed else LINES)
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :]
        if query.get("timestamps") == "true":
            stamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            lines = [f"{stamp} {line}" for line in lines]
        return "".join(f"{line}\n" for line in lines)

    def _metrics(self, path: str) -> Object:
        version = "metrics.k8s.io/v1beta1"
        parts = path.strip("/").split("/")
        if len(parts) == 3:
            verbs = {"verbs": ["get", "list"], "singularName": ""}
            resources = [
                {"name": "nodes", "namespaced": False, "kind": "NodeMetrics", **verbs},
                {"name": "pods", "namespaced": True, "kind": "PodMetrics", **verbs},
            ]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
        usage = {"cpu": "12m", "memory": "34Mi"}
        stamp = {"timestamp": now(), "window": "10s"}
        if parts[-1] == "nodes":
            items: list[Object] = [{"metadata": {"name": name}, "usage": usage, **stamp} for name in NODES]
            return {"kind": "NodeMetricsList", "apiVersion": version, "metadata": {}, "items": items}
        namespace = parts[4] if "namespaces" in parts else ""
        root = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        items = [
            {
                "metadata": {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
                "containers": [{"name": c["name"], "usage": usage} for c in pod["spec"]["containers"]],
                **stamp,
            }
            for pod in self._http.get(root).json().get("items") or []
        ]
        return {"kind": "PodMetricsList", "apiVersion": version, "metadata": {}, "items": items}


if __name__ == "__main__":
    with Kubelet(Path(sys.argv[1])):
        threading.Event().wait()
