"""How long `list_pods` and `find_problems` take over 5,000 pods, against the raw API call and JSON parse of the same
pods, and that memory stays flat over repeated calls.

    pytest -m bench tests/bench/bench_pods.py -s            # on the practice world's API, in a process of its own
    QUARTERDECK_TEST_KUBECONFIG=… pytest -m bench …         # on that cluster, in a namespace and a node that go again
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastmcp import Client

from quarterdeck.keel.settings import load
from quarterdeck.kubectl.server import create_server

PODS, SICK_EVERY = 5000, 250
ROUNDS, CALLS = 9, 50
WANTED = 1.3
FLAT = 8 << 20
REAL = os.environ.get("QUARTERDECK_TEST_KUBECONFIG", "")
STARTED = "2026-11-21T00:00:00Z"
PROBE = {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 5}
CONTAINER = {  # what an ordinary service asks for, so that the raw answer has its ordinary size
    "name": "web",
    "image": "registry.example/web:1.4.2",
    "ports": [{"containerPort": 8080}],
    "env": [{"name": name, "value": "postgres.titanium-local.svc"} for name in ("DB_HOST", "DB_PORT", "LOG_LEVEL")],
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
    "readinessProbe": PROBE,
    "livenessProbe": PROBE,
}
PRACTICE = f"""
import asyncio, json, sys
from pathlib import Path
from quarterdeck.titanium.cluster import Cluster
async def main():
    cluster = Cluster(nodes=1)
    await cluster.start()
    cluster._tasks[1].cancel()  # no kubelet: the pods stay as they are made
    cluster.write_kubeconfig(Path(sys.argv[1]))
    for line in sys.stdin:
        name, spec, status = json.loads(line)
        cluster.create("Pod", name, spec=spec, metadata={{"labels": {{"app": "web"}}}})
        cluster.change("Pod", name, lambda pod: pod.update(status=status))
    print("ready", flush=True)
    await asyncio.sleep({15 * 60})
asyncio.run(main())
"""

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]


@dataclass
class Place:
    kubeconfig: Path
    namespace: str

    def http(self) -> httpx.Client:
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context()
        if authority := cluster.get("certificate-authority-data"):
            import base64

            trust = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
        else:
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {user['token']}"}
        return httpx.Client(base_url=cluster["server"], headers=headers, verify=trust, timeout=60)


def pods(node: str) -> Iterator[tuple[str, Any, Any]]:
    for number in range(PODS):
        sick = number % SICK_EVERY == SICK_EVERY - 1
        state: dict[str, Any] = {"running": {"startedAt": STARTED}}
        if sick:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}
        spec = {"nodeName": node, "containers": [CONTAINER]}
        container = {"name": "web", "ready": not sick, "restartCount": 9 if sick else 0, "state": state}
        container |= {"image": "registry.example/web:1.4.2", "imageID": ""}
        status = {"phase": "Running", "podIP": "10.0.0.7", "hostIP": "192.168.49.2", "startTime": STARTED}
        ready = ("PodScheduled", "Initialized") if sick else ("PodScheduled", "Initialized", "Ready", "ContainersReady")
        conditions = [{"type": type, "status": "True", "lastTransitionTime": STARTED} for type in ready]
        yield f"web-{number:04d}", spec, status | {"conditions": conditions, "containerStatuses": [container]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("bench")
    yield from _real() if REAL else _practice(folder)


def _practice(folder: Path) -> Iterator[Place]:
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-c", PRACTICE, str(kubeconfig)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for pod in pods("a-node-that-nobody-serves"):
            process.stdin.write(json.dumps(pod) + "\n")
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        yield Place(kubeconfig, "titanium-local")
    finally:
        process.kill()
        process.wait()


def _real() -> Iterator[Place]:
    place = Place(Path(REAL), f"bench-{uuid.uuid4().hex[:8]}")
    node = place.namespace
    with place.http() as http:

        def post(path: str, body: dict[str, Any]) -> None:
            http.post(path, json=body).raise_for_status()

        def make(pod: tuple[str, Any, Any]) -> None:
            name, spec, status = pod
            path = f"/api/v1/namespaces/{place.namespace}/pods"
            post(path, {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec})
            merge = {"Content-Type": "application/merge-patch+json"}
            done = http.patch(f"{path}/{name}/status", content=json.dumps({"status": status}), headers=merge)
            done.raise_for_status()

        def remove(name: str) -> None:
            http.delete(f"/api/v1/namespaces/{place.namespace}/pods/{name}", params={"gracePeriodSeconds": 0})

        post("/api/v1/namespaces", {"metadata": {"name": place.namespace}})
        taint = {"key": "bench", "effect": "NoExecute"}
        post("/api/v1/nodes", {"metadata": {"name": node}, "spec": {"taints": [taint]}})
        try:
            tolerated = [(n, s | {"tolerations": [{"operator": "Exists"}]}, status) for n, s, status in pods(node)]
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(make, tolerated))
            yield place
        finally:
            # One by one and at once: without a kubelet nobody confirms the end of a pod, and the namespace would wait.
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(remove, [name for name, _, _ in pods(node)]))
            http.delete(f"/api/v1/namespaces/{place.namespace}")
            http.delete(f"/api/v1/nodes/{node}")


@pytest.fixture
async def kubectl(place: Place, tmp_path: Path) -> Any:
    settings = load(
        {
            "QUARTERDECK_HOME": str(tmp_path),
            "QUARTERDECK_CONFIG": "",
            "QUARTERDECK_KUBECTL_KUBECONFIG": str(place.kubeconfig),
            "QUARTERDECK_KUBECTL_NAMESPACE": place.namespace,
        }
    )
    async with Client(create_server(settings)) as client:
        yield client


async def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def test_both_answer_in_8_kb_with_the_unhealthy_first_and_nearly_as_fast_as_the_raw_call(
    place: Place, kubectl: Client[Any]
) -> None:
    with place.http() as http:

        def raw() -> int:
            answer = http.get(f"/api/v1/namespaces/{place.namespace}/pods")
            assert len(json.loads(answer.content)["items"]) == PODS
            return len(answer.content)

        tools = ("list_pods", "find_problems")
        answers = {tool: await kubectl.call_tool(tool) for tool in tools}
        size = raw()
        taken: dict[str, list[float]] = {tool: [] for tool in (*tools, "raw")}
        for _ in range(ROUNDS):
            taken["raw"].append(await seconds(lambda: asyncio.to_thread(raw)))
            for tool in tools:
                taken[tool].append(await seconds(lambda: kubectl.call_tool(tool)))  # noqa: B023
    print(
        f"\nraw GET of {PODS} pods and json.loads: {size / 1e6:.1f} MB, median {statistics.median(taken['raw']):.3f} s"
    )
    for tool in tools:
        ratio = statistics.median(taken[tool]) / statistics.median(taken["raw"])
        text = answers[tool].content[0].text.encode()
        structure = json.dumps(answers[tool].structured_content, separators=(",", ":"), ensure_ascii=False).encode()
        print(f"{tool:<14} {ratio:.2f} × that; text {len(text)} bytes, structure {len(structure)} bytes")
        assert max(len(text), len(structure)) <= 8192
        assert ratio <= WANTED
    listed, found = (answers[tool].structured_content for tool in tools)
    assert {pod["status"] for pod in listed["pods"][: PODS // SICK_EVERY]} == {"CrashLoopBackOff"}
    assert listed["left_out"] == PODS - len(listed["pods"])
    assert found["problems"][0]["reason"] == "CrashLoopBackOff"
    assert str(PODS // SICK_EVERY) in found["problems"][0]["detail"]


async def test_memory_does_not_grow_with_repeated_calls(kubectl: Client[Any]) -> None:
    async def calls(number: int) -> int:
        for _ in range(number):
            await kubectl.call_tool("list_pods")
            await kubectl.call_tool("find_problems")
        return resident()

    await calls(5)
    before = await calls(CALLS // 2)
    after = await calls(CALLS // 2)
    print(f"\nresident after {5 + CALLS // 2} calls of each {before >> 20} MiB, after {5 + CALLS} {after >> 20} MiB")
    assert after - before < FLAT


def resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
