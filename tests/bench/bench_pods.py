"""5,000 pods in a namespace: the tools' time against the raw API call and its JSON parse, their size, and memory.

Against the practice world, or the cluster of QUARTERDECK_TEST_KUBECONFIG (the pods are made there first).
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastmcp import Client

from quarterdeck.keel.settings import load
from quarterdeck.kubectl.server import create_server

PODS, EVERY = 5_000, 250
ROUNDS = 5
NAMESPACE = "crowd"


def pod(number: int) -> dict[str, Any]:
    name = f"shop-{number // 100:03d}-7d9f8b6c5d-{number:05d}"
    broken = number % EVERY == EVERY - 1
    started = "2026-11-20T10:00:00Z"
    state: dict[str, Any] = {"running": {"startedAt": started}}
    last: dict[str, Any] = {}
    if broken:
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}
        last = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": started, "finishedAt": started}}
    ready = "False" if broken else "True"
    container = {
        "name": "app",
        "image": "registry.example/shop:1.0",
        "env": [{"name": f"SETTING_{n}", "value": "x" * 20} for n in range(10)],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets", "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": f"shop-{number // 100:03d}"}},
        "spec": {
            "nodeName": "titanium-node-1", "containers": [container], "volumes": [{"name": "token", "emptyDir": {}}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "startTime": started,
            "conditions": [
                {"type": kind, "status": ready, "lastTransitionTime": started} for kind in ("Ready", "ContainersReady")
            ],
            "containerStatuses": [
                {
                    "name": "app", "image": "registry.example/shop:1.0", "imageID": "sha256:0", "ready": not broken,
                    "restartCount": 17 if broken else 0, "state": state, "lastState": last, "started": not broken,
                }
            ],
        },
    }  # fmt: skip


CROWD = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from bench_pods import NAMESPACE, PODS, pod
from quarterdeck.titanium.cluster import Cluster
async def main():
    cluster = Cluster()
    await cluster.start()
    cluster.create("Namespace", NAMESPACE)
    cluster.store.load(cluster.kinds.named("Pod"), [pod(n) for n in range(PODS)])
    cluster.write_kubeconfig(Path(sys.argv[1]))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """A cluster in a process of its own, so that its work is not counted as ours."""
    if real := os.environ.get("QUARTERDECK_TEST_KUBECONFIG"):
        yield fill(Path(real))
        return
    path = tmp_path / "kubeconfig"
    program = CROWD.format(here=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield path
    finally:
        process.kill()
        process.communicate()


def fill(kubeconfig: Path) -> Path:
    """Make the pods on a real API server, once."""
    with raw(kubeconfig) as http:
        http.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}})
        http.post("/api/v1/nodes", json={"metadata": {"name": "titanium-node-1"}})
        have = {p["metadata"]["name"] for p in http.get(f"/api/v1/namespaces/{NAMESPACE}/pods").json()["items"]}
        for number in range(PODS):
            made = pod(number)
            name = made["metadata"]["name"]
            if name not in have:
                http.post(f"/api/v1/namespaces/{NAMESPACE}/pods", json=made)
                patch = json.dumps({"status": made["status"]})
                headers = {"Content-Type": "application/merge-patch+json"}
                http.patch(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/status", content=patch, headers=headers)
    return kubeconfig


def raw(kubeconfig: Path) -> httpx.Client:
    config = yaml.safe_load(kubeconfig.read_text())
    server = config["clusters"][0]["cluster"]["server"]
    token = config["users"][0]["user"]["token"]
    return httpx.Client(base_url=server, headers={"Authorization": f"Bearer {token}"}, verify=False, timeout=60)


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


@pytest.mark.bench
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc for memory")
async def test_five_thousand_pods_fit_an_answer_in_little_more_than_the_raw_time(
    kubeconfig: Path, tmp_path: Path
) -> None:
    settings = load(
        {
            "QUARTERDECK_HOME": str(tmp_path / "home"),
            "QUARTERDECK_CONFIG": "",
            "QUARTERDECK_KUBECTL_KUBECONFIG": str(kubeconfig),
            "QUARTERDECK_KUBECTL_NAMESPACE": NAMESPACE,
        }
    )
    seconds: dict[str, list[float]] = {"raw list + json.loads": [], "list_pods": [], "find_problems": []}
    sizes: dict[str, int] = {}
    with raw(kubeconfig) as http:
        async with Client(create_server(settings)) as client:

            async def call(tool: str) -> Any:
                result = await client.call_tool(tool, {})
                text, structure = result.content[0].text, json.dumps(result.structured_content)  # type: ignore[union-attr]
                sizes[tool] = max(len(text.encode()), len(structure.encode()))
                return result.structured_content

            def plain() -> int:
                return len(json.loads(http.get(f"/api/v1/namespaces/{NAMESPACE}/pods").content)["items"])

            assert await asyncio.to_thread(plain) == PODS
            listed, problems = await call("list_pods"), await call("find_problems")
            assert listed["total"] == PODS
            assert listed["by_status"]["CrashLoopBackOff"] == PODS // EVERY
            assert listed["pods"][0]["status"] == "CrashLoopBackOff"
            assert all(problem["reason"] == "CrashLoopBackOff" for problem in problems["problems"][:5])
            for _ in range(ROUNDS):
                for what in seconds:
                    started = time.perf_counter()
                    await (asyncio.to_thread(plain) if what.startswith("raw") else call(what))
                    seconds[what].append(time.perf_counter() - started)
            before = resident_mb()
            for _ in range(50):
                await call("list_pods")
            after = resident_mb()
    print()
    base = seconds["raw list + json.loads"]
    for what, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, base, strict=True))
        size = f"{sizes[what]:>6} bytes" if what in sizes else ""
        print(f"{what:<24} median {statistics.median(taken) * 1000:6.0f} ms   {ratio:.2f} × raw   {size}")
        assert ratio <= 1.3
        assert sizes.get(what, 0) <= 8192
    print(f"memory over 50 more calls: {before:.0f} → {after:.0f} MB")
    assert after < before * 1.1 + 5
