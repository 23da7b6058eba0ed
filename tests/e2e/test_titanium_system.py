"""Each fault of the practice world looks as it promises, to the real tools, and heals as it says."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck.titanium.faults import FAULTS
from quarterdeck.titanium.story import PracticeWorld, practice_world

KUBECTL = str(Path(sys.executable).parent / "kubectl")


@pytest.fixture(scope="module")
def shared() -> Iterator[PracticeWorld]:
    with practice_world(speed=20) as world:
        yield world


@pytest.fixture
def world(shared: PracticeWorld) -> Iterator[PracticeWorld]:
    yield shared
    shared.clear()
    shared.wait_until(lambda w: w.all_ready(), "the system is well again", 30)


def kubectl(world: PracticeWorld, *arguments: str) -> str:
    command = [KUBECTL, "--kubeconfig", str(world.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def stats(world: PracticeWorld) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{world.balancer_url}/stats", timeout=10).json()
    return found


def until_seen(world: PracticeWorld, wanted: str, *arguments: str) -> None:
    world.wait_until(lambda _: True, "the loop turns")
    for _ in range(300):
        if wanted in kubectl(world, *arguments):
            return
    raise AssertionError(f"{wanted!r} was not in kubectl {' '.join(arguments)}:\n{kubectl(world, *arguments)}")


def test_stats_have_the_shape_of_the_real_balancer(world: PracticeWorld) -> None:
    found = stats(world)
    assert set(found) >= {"load-balancer", "api-gateway", "auth", "user_service", "blog_service", "database", "cache"}
    own = found["load-balancer"]
    assert set(own) == {
        "total_requests", "success_rate", "avg_response_time_ms", "avg_response_time_ms_lifetime",
        "requests_per_second", "status", "has_real_traffic",
    }  # fmt: skip
    assert 0 <= own["success_rate"] <= 100
    assert all(
        found[key]["service_status"] == "online" for key in ("api-gateway", "auth", "user_service", "blog_service")
    )
    assert found["database"] == found["user_service"]["database"]
    assert httpx.get(f"{world.balancer_url}/lb-health", timeout=5).status_code == 200


def until_offline(world: PracticeWorld, service: str) -> None:
    """A container that crashes is started again, and well for a moment."""
    deadline = time.monotonic() + 20
    while (said := stats(world)[service]) != {"service_status": "offline"}:
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def test_the_seed_story_breaks_the_blog_and_a_restart_heals_it(world: PracticeWorld) -> None:
    world.inject("blog-locked")
    world.wait_until(lambda w: not w._ready("blog-service"), "the blog is down")
    until_seen(world, "CrashLoopBackOff", "get", "pods", "-l", "app=blog-service")
    until_offline(world, "blog_service")
    said = kubectl(world, "logs", "deployment/blog-service", "--previous")
    assert "sqlite3.OperationalError: database is locked" in said
    assert "Traceback (most recent call last):" in said
    kubectl(world, "rollout", "restart", "deployment/blog-service")
    assert "successfully rolled out" in kubectl(world, "rollout", "status", "deployment/blog-service", "--timeout=20s")
    world.wait_until(lambda w: w.all_ready(), "all is well")
    assert stats(world)["blog_service"]["service_status"] == "online"


@pytest.mark.parametrize(
    ("fault", "app", "seen"),
    [
        ("oom", "user-service", "OOMKilled"),
        ("image", "blog-service", "ImagePull"),
        ("config", "auth-service", "CreateContainerConfigError"),
        ("crash-config", "api-gateway", "CrashLoopBackOff"),
        ("disk-full", "blog-service", "CrashLoopBackOff"),
        ("bad-rollout", "auth-service", "CrashLoopBackOff"),
        ("permission", "blog-service", "CrashLoopBackOff"),
        ("port-in-use", "user-service", "CrashLoopBackOff"),
        ("readiness", "auth-service", "0/1"),
        ("dns", "auth-service", "0/1"),
        ("too-many-connections", "user-service", "0/1"),
        ("cert-expired", "auth-service", "0/1"),
        ("deadlock", "user-service", "0/1"),
        ("dependency", "user-service", "0/1"),
        ("unschedulable", "api-gateway", "Pending"),
        ("config-map", "user-service", "CreateContainerConfigError"),
        ("timeouts", "blog-service", "0/1"),
        ("taint", "auth-service", "Pending"),
    ],
)
def test_a_fault_shows_in_the_pods_and_clears(world: PracticeWorld, fault: str, app: str, seen: str) -> None:
    world.inject(fault)
    if seen == "OOMKilled":
        until_seen(world, seen, "get", "pods", "-l", f"app={app}", "-o", "yaml")
    else:
        until_seen(world, seen, "get", "pods", "-l", f"app={app}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("liveness", "failed liveness probe, will be restarted"),
        ("quota", "exceeded quota"),
        ("unschedulable", "Insufficient cpu"),
        ("readiness", "Readiness probe failed"),
        ("config", 'secret "payment-secrets" not found'),
    ],
)
def test_a_fault_is_written_down_in_events(world: PracticeWorld, fault: str, words: str) -> None:
    world.inject(fault)
    until_seen(world, words, "get", "events")


def test_a_lost_node_is_not_ready(world: PracticeWorld) -> None:
    world.inject("node-not-ready")
    until_seen(world, "NotReady", "get", "nodes")


def test_a_surge_is_in_the_figures_and_in_prometheus(world: PracticeWorld) -> None:
    world.inject("surge")
    world.wait_until(lambda w: w.traffic.level > 140, "traffic has grown")
    answer = httpx.get(
        f"{world.prometheus_url}/api/v1/query", params={"query": "sum(rate(http_requests_total[5m]))"}, timeout=5
    )
    assert 70 < float(answer.json()["data"]["result"][0]["value"][1]) < 160
    bad = httpx.get(f"{world.prometheus_url}/api/v1/query", params={"query": "sum(rate("}, timeout=5)
    assert bad.status_code == 400
    assert bad.json()["errorType"] == "bad_data"


def test_an_autoscaler_at_its_end_is_listed(world: PracticeWorld) -> None:
    world.inject("autoscaler")
    until_seen(world, "Deployment/api-gateway", "get", "hpa")


def test_loki_finds_the_lines_of_a_service(world: PracticeWorld) -> None:
    query = {"query": '{app="auth-service"} |= "startup complete"', "limit": "10"}
    found = httpx.get(f"{world.loki_url}/loki/api/v1/query_range", params=query, timeout=5).json()
    lines = [value[1] for stream in found["data"]["result"] for value in stream["values"]]
    assert lines
    assert all("startup complete" in line for line in lines)


def test_every_fault_says_what_it_is() -> None:
    assert len(FAULTS) >= 18
    assert all(len(fault.words) > 20 for fault in FAULTS.values())


def test_bad_weather_reaches_the_next_request_only(world: PracticeWorld) -> None:
    headers = {"Authorization": "Bearer titanium-admin"}
    with httpx.Client(base_url=world.kubernetes_url, headers=headers, verify=False, timeout=10) as http:
        world.weather("429", seconds=1)
        busy = http.get("/api/v1/nodes")
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
        assert http.get("/api/v1/nodes").status_code == 200
        assert httpx.get(f"{world.kubernetes_url}/api/v1/nodes", verify=False, timeout=10).status_code == 401
