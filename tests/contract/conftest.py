"""The clusters that the contract holds for: the practice world always, and the one of QUARTERDECK_TEST_KUBECONFIG."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.titanium.kubelet import Exit, Idle, Process

REAL = os.environ.get("QUARTERDECK_TEST_KUBECONFIG", "")
KUBECTL = str(Path(sys.executable).parent / "kubectl")
LINES = [f"line {number} of the log" for number in range(1, 11)]
LAST_WORDS = [
    "starting",
    "Traceback (most recent call last):",
    '  File "app.py", line 1, in <module>',
    "ValueError: boom",
]


class Failing(Idle):
    """What the images of the contract do."""

    def __init__(self, image: str, log: Callable[[str], None], now: float) -> None:
        self._image, self._ends = image, now + 1.0
        for line in LAST_WORDS if image.startswith(("qd/crash", "qd/oom")) else LINES:
            log(line)

    def poll(self, now: float) -> Exit | None:
        if now < self._ends:
            return None
        if self._image.startswith("qd/crash"):
            return Exit(1)
        return Exit(137, "OOMKilled") if self._image.startswith("qd/oom") else None

    def ready(self, now: float) -> str | None:
        return "HTTP probe failed with statuscode: 503" if self._image.startswith("qd/notready") else None


class ContractRuntime:
    def pull(self, image: str) -> str | None:
        return "not found" if image.startswith("qd/missing") else None

    def start(self, pod: Any, container: Any, attempt: int, log: Callable[[str], None], now: float) -> Process | str:
        return Failing(container["image"], log, now)


@dataclass
class Subject:
    """One cluster under test."""

    name: str
    kubeconfig: Path
    namespace: str = ""
    viewer: Path | None = None

    def kubectl(self, *arguments: str, stdin: str | None = None, ok: bool = True, timeout: float = 40) -> str:
        command = [KUBECTL, "--kubeconfig", str(self.kubeconfig)]
        if self.namespace:
            command += ["-n", self.namespace]
        done = subprocess.run(
            [*command, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert (done.returncode == 0) is ok, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout if ok else done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kubectl(*arguments, "-o", "json"))

    def apply(self, manifest: str) -> str:
        return self.kubectl("apply", "-f", "-", stdin=manifest)

    def wait(self, what: str, true: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            found = true()
            if found:
                return found
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.1)


def _practice(folder: Path) -> Iterator[Subject]:
    import asyncio

    from quarterdeck.titanium.cluster import Cluster

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> Cluster:
        cluster = Cluster(speed=8, runtime=ContractRuntime(), nodes=2)
        await cluster.start()
        return cluster

    cluster = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield Subject("practice", cluster.write_kubeconfig(folder / "kubeconfig"))
    finally:
        asyncio.run_coroutine_threadsafe(cluster.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


def _real() -> Iterator[Subject]:
    subject = Subject("real", Path(REAL))
    nodes = subject.json("get", "nodes")["items"]
    ready = [
        n
        for n in nodes
        if any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"].get("conditions", []))
    ]
    if ready and not all(n["metadata"]["name"].startswith("contract-node") for n in ready):
        yield subject
        return
    place = Path(__file__).with_name("kubelet.py")
    spec = importlib.util.spec_from_file_location("contract_kubelet", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.Kubelet(Path(REAL)):
        yield subject


@pytest.fixture(scope="session", params=["practice", *(["real"] if REAL else [])])
def whole_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    yield from _real() if request.param == "real" else _practice(tmp_path_factory.mktemp("practice"))


@pytest.fixture
def cluster(whole_cluster: Subject) -> Iterator[Subject]:
    """The cluster with a namespace of the test's own."""
    name = f"contract-{uuid.uuid4().hex[:8]}"
    whole_cluster.kubectl("create", "namespace", name)
    yield Subject(whole_cluster.name, whole_cluster.kubeconfig, name)
    whole_cluster.kubectl("delete", "namespace", name, "--wait=false")


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: IMAGE
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        env: [{name: COLOUR, value: blue}]
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
"""


def manifest(image: str = "qd/web:1", replicas: int = 2) -> str:
    return DEPLOYMENT.replace("IMAGE", image).replace("REPLICAS", str(replicas))


@pytest.fixture(name="web")
def _web() -> Callable[..., str]:
    """A deployment's manifest, by image and replicas."""
    return manifest
