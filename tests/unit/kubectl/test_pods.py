"""What the rows of a pod table mean, which log lines are the newest, and what a pod's name says of its owner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from quarterdeck.keel.errors import Refusal
from quarterdeck.kubectl import pods, problems
from quarterdeck.kubectl.cluster import Cluster
from quarterdeck.kubectl.models import PodRow
from quarterdeck.kubectl.words import quantity

from .conftest import Api, answer, status

COLUMNS = [{"name": name} for name in ("Name", "Ready", "Status", "Restarts", "Age", "IP")]


def row(name: str, ready: str = "1/1", state: str = "Running", restarts: str = "0") -> list[str]:
    return [name, ready, state, restarts, "3d", "10.0.0.1"]


def table(*rows: list[str]) -> bytes:
    return answer({"kind": "Table", "columnDefinitions": COLUMNS, "rows": [{"cells": cells} for cells in rows]})


def test_the_worst_pods_come_first_and_finished_ones_last(api: Api, cluster: Cluster) -> None:
    api.says(
        table(
            row("a-done", "0/1", "Completed"),
            row("b-well"),
            row("c-lately", restarts="3 (2m10s ago)"),
            row("d-long-ago", restarts="3 (2d4h ago)"),
            row("e-starts", "0/1", "ContainerCreating"),
            row("f-unready", "1/2"),
            row("g-crashes", "0/1", "CrashLoopBackOff", "9 (12s ago)"),
            row("h-init", "0/1", "Init:Error"),
        )
    )
    found = pods.list_pods(cluster, "shop", None, None, 0)
    order = [pod.name[0] for pod in found.pods]
    assert "".join(order) == "ghfecbda"
    assert found.where == "namespace shop of here; 4 unhealthy, listed first"
    failing = pods.list_pods(cluster, "shop", None, "unhealthy", 0)
    assert [pod.name[0] for pod in failing.pods] == list("ghfec")
    asked = parse_qs(urlsplit(api.asked[0][1]).query)
    assert asked == {"includeObject": ["None"]}
    assert "as=Table" in api.headers[0]


def test_thousands_of_pods_are_counted_and_reached_by_offset(api: Api, cluster: Cluster) -> None:
    api.says(table(*(row(f"web-{n:04d}") for n in range(3000)), row("bad", "0/1", "Error")))
    seen: list[str] = []
    offset = 0
    while True:
        found = pods.list_pods(cluster, "shop", None, None, offset)
        assert found.size() <= 8000
        assert (found.total, found.by_status) == (3001, {"Running": 3000, "Error": 1})
        seen += [pod.name for pod in found.pods]
        if not found.left_out or len(seen) > 500:
            break
        assert found.more is not None
        assert found.more.startswith(f"offset={len(seen)},")
        offset = len(seen)
    assert seen[0] == "bad"
    assert len(seen) == len(set(seen)) > 500
    assert [pod.name for pod in pods.list_pods(cluster, "shop", None, "err", 0).pods] == ["bad"]
    assert [pod.name for pod in pods.list_pods(cluster, "shop", None, "Unhealthy", 0).pods] == ["bad"]
    assert pods.list_pods(cluster, "shop", None, None, 9999).pods == []


def test_an_empty_namespace_is_told_from_one_that_is_not_there(api: Api, cluster: Cluster) -> None:
    api.says(table(), table(["shop"], ["kube-system"]))
    assert pods.list_pods(cluster, "shop", None, None, 0).total == 0
    api.says(table(), table(["shop"], ["kube-system"]))
    with pytest.raises(Refusal, match=r"has no namespace 'shpo'. Did you mean shop\?"):
        pods.list_pods(cluster, "shpo", None, None, 0)


def pod(*containers: str) -> bytes:
    return answer({"metadata": {"name": "web"}, "spec": {"containers": [{"name": name} for name in containers]}})


def log(lines: list[str]) -> bytes:
    return answer("\n".join(lines).encode())


def test_a_log_too_long_to_read_is_asked_for_in_fewer_of_its_newest_lines(api: Api, cluster: Cluster) -> None:
    api.says(pod("main"), log(["x" * 2000] * 1000), log(["first", "password=hunter2-planted", "last"]))
    found = pods.logs(cluster, "shop", "web", None, 800, "10m", False)
    assert found.lines == ["first", "password=[redacted]", "last"]
    assert found.left_out is not None
    assert found.left_out.startswith("(700 older lines")
    asked = [parse_qs(urlsplit(target).query) for _, target in api.asked[1:]]
    assert [query["tailLines"] for query in asked] == [["800"], ["100"]]
    assert asked[0]["sinceSeconds"] == ["600"]


def test_the_newest_lines_of_a_log_are_kept_when_the_answer_is_full(api: Api, cluster: Cluster) -> None:
    api.says(pod("main"), log([f"line {n} {'y' * 80}" for n in range(400)]))
    found = pods.logs(cluster, "shop", "web", None, 400, None, False)
    assert found.size() <= 8000
    assert found.lines[-1].startswith("line 399 ")
    assert found.left_out == (
        f"({400 - len(found.lines)} older lines do not fit; search_logs of the logs server finds what is in them)"
    )


def test_which_container_is_meant_is_asked_or_said(api: Api, cluster: Cluster) -> None:
    api.says(pod("main", "side"))
    with pytest.raises(Refusal, match="several containers: say container=main or side"):
        pods.logs(cluster, "shop", "web", None, 10, None, False)
    with pytest.raises(Refusal, match=r"no container 'mian'\. It has: main, side"):
        pods.logs(cluster, "shop", "web", "mian", 10, None, False)
    with pytest.raises(Refusal, match="'soon' is not a duration"):
        pods.logs(cluster, "shop", "web", "main", 10, "soon", False)


def test_a_log_that_is_not_there_is_explained(api: Api, cluster: Cluster) -> None:
    api.says(pod("main"), status(400, 'previous terminated container "main" in pod "web" not found'))
    with pytest.raises(Refusal, match="there is no previous run"):
        pods.logs(cluster, "shop", "web", None, 10, None, True)
    api.says(pod("main"), status(400, 'container "main" in pod "web" is waiting to start: ImagePullBackOff'))
    with pytest.raises(Refusal, match="has not started, so it has no log"):
        pods.logs(cluster, "shop", "web", None, 10, None, False)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("blog-service-59mgbmj888-gfvgk", "blog-service"),
        ("web-7d9f8c6b5-x2k4p", "web"),
        ("db-primary-0", "db-primary"),
        ("db-replica-12", "db-replica"),
        ("fluentd-x2k4p", "fluentd"),
        ("prod-mysql-0", "prod-mysql"),
        ("blog-service-0", "blog-service"),
        ("debug", "debug"),
        ("my-service", "my-service"),
    ],
)
def test_a_pods_name_says_whose_it_is(name: str, stem: str) -> None:
    assert problems._stem(name) == stem


def test_of_each_workload_and_state_a_few_are_looked_at() -> None:
    rows = [PodRow(name=f"db-{role}-{n}", ready="0/1", status="Error", restarts="1", age="1d")
            for role in ("primary", "replica") for n in range(5)]  # fmt: skip
    assert [row.name for row in problems._representatives(rows)] == [
        "db-primary-0", "db-primary-1", "db-replica-0", "db-replica-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "number"),
    [("250m", 0.25), ("2", 2), ("64Mi", 64 * 2**20), ("1G", 1e9), ("12345678n", 0.012345678), ("x", 0.0)],
)
def test_quantities_are_numbers(written: str, number: float) -> None:
    assert quantity(written) == pytest.approx(number)


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web-1"},
        "spec": {"containers": [{"name": "web", "readinessProbe": {"httpGet": {}}}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "web", "state": state, **more}]},
    }


@pytest.mark.parametrize(
    ("pod", "reason", "why"),
    [
        (
            container({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=4,
                      lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "OOMKilled", "exit code 137 (killed: SIGKILL), OOMKilled",
        ),
        (container({"running": {}}, ready=False), "not ready", "its readiness probe fails"),
        (container({"terminated": {"exitCode": 2, "reason": "Error"}}), "Error", "ended: exit code 2"),
        (
            container({"running": {}}, ready=True, restartCount=3, lastState={"terminated": {"exitCode": 1}}),
            "restarted lately", None,
        ),
        ({"metadata": {"name": "w"}, "status": {"phase": "Failed", "reason": "Evicted"}}, "Evicted", "Evicted"),
    ],
)  # fmt: skip
def test_the_reason_of_an_unhealthy_pod(pod: dict[str, Any], reason: str, why: str | None) -> None:
    assert problems.reason_of(pod)[0] == reason
    said = pods.why(pod)
    assert (why in said[-1]) if why else said == []


@pytest.mark.parametrize(
    ("end", "restarts", "ago", "reason"),
    [
        ("OOMKilled", 1, 60, "OOMKilled"),
        ("OOMKilled", 1, 3600, "restarted lately"),
        ("Error", 3, 60, "keeps restarting"),
        ("Error", 3, 500, "restarted lately"),
    ],
)
def test_a_pod_that_is_well_between_two_ends_is_not_taken_for_well(
    end: str, restarts: int, ago: float, reason: str
) -> None:
    finished = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    last = {"terminated": {"exitCode": 1, "reason": end, "finishedAt": finished}}
    pod = container({"running": {}}, ready=True, restartCount=restarts, lastState=last)
    assert problems.reason_of(pod)[0] == reason
    assert bool(pods.why(pod)) is (ago < 600)
