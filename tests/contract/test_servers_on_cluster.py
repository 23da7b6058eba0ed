"""The kubectl and logs servers tell the same facts of both clusters, and change them alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from quarterdeck.keel.changes import Changes
from quarterdeck.keel.settings import Settings, load
from quarterdeck.kubectl.server import create_server as kubectl_server
from quarterdeck.logs.server import create_server as logs_server

ERAS = ("auto", "legacy")


@pytest.fixture
def settings(cluster: Any, tmp_path: Path) -> Settings:
    return load(
        {
            "QUARTERDECK_HOME": str(tmp_path / "home"),
            "QUARTERDECK_CONFIG": "",
            "QUARTERDECK_KUBECTL_KUBECONFIG": str(cluster.kubeconfig),
            "QUARTERDECK_KUBECTL_NAMESPACE": cluster.namespace,
        }
    )


@pytest.fixture(params=ERAS)
async def kubectl(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[Client[Any]]:
    async with Client(kubectl_server(settings), mode=request.param) as client:
        yield client


async def ask(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert result.structured_content is not None
    return result.structured_content


def settled(cluster: Any) -> None:
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=30s")


def fails(cluster: Any, *reasons: str) -> None:
    def seen() -> bool:
        return any(reason in cluster.kubectl("get", "pods") for reason in reasons)

    cluster.wait(f"pods show {reasons}", seen, 45)


async def test_pods_are_listed_with_their_state(kubectl: Client[Any], cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    settled(cluster)
    found = await ask(kubectl, "list_pods")
    assert found["total"] == 2
    assert {(p["ready"], p["status"]) for p in found["pods"]} == {("1/1", "Running")}
    assert (await ask(kubectl, "find_problems"))["problems"] == []


@pytest.mark.parametrize(
    ("image", "states", "reason", "evidence"),
    [
        ("qd/crash:1", ("CrashLoopBackOff",), "CrashLoopBackOff", "exit code 1"),
        ("qd/oom:1", ("CrashLoopBackOff", "OOMKilled"), "OOMKilled", "137"),
        ("qd/missing:1", ("ErrImagePull", "ImagePullBackOff"), "ImagePull", "qd/missing:1"),
        ("qd/notready:1", ("Running",), "not ready", "readiness"),
    ],
)
async def test_each_kind_of_failure_is_found_first_and_named(
    settings: Settings,
    cluster: Any,
    web: Callable[..., str],
    image: str,
    states: tuple[str, ...],
    reason: str,
    evidence: str,
) -> None:
    cluster.apply(web(image, 1))
    fails(cluster, *states)
    async with Client(kubectl_server(settings)) as kubectl:
        named = "Image" if reason == "ImagePull" else reason
        for _ in range(200):  # between two ends it looks better for a moment
            found = await ask(kubectl, "find_problems")
            if any(one["severity"] == "high" and named in one["reason"] for one in found["problems"][:1]):
                break
            await asyncio.sleep(0.1)
        worst = found["problems"][0]
        assert worst["what"] == "Deployment web"
        assert reason in worst["reason"] or (reason == "ImagePull" and "Image" in worst["reason"])
        assert worst["severity"] == "high"
        said = str(worst).lower()
        assert evidence.lower() in said
        for _ in range(200):
            pods = (await ask(kubectl, "list_pods", status="unhealthy"))["pods"]
            told = await ask(kubectl, "describe_pod", pod_name=pods[0]["name"]) if pods else {}
            if told.get("why_unhealthy"):
                break
            await asyncio.sleep(0.1)
        assert told["why_unhealthy"]
        assert told["owner"].startswith("ReplicaSet web-")
        assert "blue" not in str(told)  # the value of an environment variable


async def test_logs_come_by_pod_and_by_service(
    kubectl: Client[Any], cluster: Any, web: Callable[..., str], settings: Settings
) -> None:
    cluster.apply(web(replicas=1))
    settled(cluster)
    pod = (await ask(kubectl, "list_pods"))["pods"][0]["name"]
    told = await ask(kubectl, "get_pod_logs", pod_name=pod, tail=2)
    assert told["lines"] == ["line 9 of the log", "line 10 of the log"]
    async with Client(logs_server(settings)) as logs:
        found = await logs.call_tool("search_logs", {"service": "web", "pattern": "line [78] "})
        assert "line 7 of the log" in found.content[0].text  # type: ignore[union-attr]
        assert "line 9 of the log" not in found.content[0].text.partition("context")[0]  # type: ignore[union-attr]


async def test_a_change_is_shown_approved_done_and_verified(
    kubectl: Client[Any], cluster: Any, web: Callable[..., str], settings: Settings
) -> None:
    cluster.apply(web())
    settled(cluster)
    asked = await ask(kubectl, "scale_deployment", deployment="web", replicas=3)
    assert asked["status"] == "approval_required"
    assert (asked["before"], asked["after"]) == ("replicas: 2", "replicas: 3")
    assert cluster.json("get", "deployment", "web")["spec"]["replicas"] == 2
    Changes.of(settings).grant(asked["change_id"], "the test")
    done = await ask(kubectl, "scale_deployment", deployment="web", replicas=3)
    assert done["status"] == "done", done
    assert cluster.json("get", "deployment", "web")["status"]["availableReplicas"] == 3
    assert (
        await kubectl.call_tool("scale_deployment", {"deployment": "web", "replicas": 3}, raise_on_error=False)
    ).is_error


async def test_what_somebody_else_changed_after_approval_is_not_overwritten(
    kubectl: Client[Any], cluster: Any, web: Callable[..., str], settings: Settings
) -> None:
    cluster.apply(web())
    settled(cluster)
    asked = await ask(kubectl, "restart_deployment", deployment="web")
    Changes.of(settings).grant(asked["change_id"], "the test")
    cluster.kubectl("annotate", "deployment/web", "touched=yes")
    before = cluster.json("get", "deployment", "web")["metadata"]["generation"]
    again = await ask(kubectl, "restart_deployment", deployment="web")
    assert again["status"] == "approval_required"
    assert again["change_id"] != asked["change_id"]
    assert cluster.json("get", "deployment", "web")["metadata"]["generation"] == before


async def test_a_grant_outlives_status_that_moves_by_itself(
    settings: Settings, cluster: Any, web: Callable[..., str]
) -> None:
    cluster.apply(web("qd/crash:1", 1))
    fails(cluster, "CrashLoopBackOff")
    async with Client(kubectl_server(settings)) as kubectl:
        asked = await ask(kubectl, "scale_deployment", deployment="web", replicas=0)
        Changes.of(settings).grant(asked["change_id"], "the test")
        version = cluster.json("get", "deployment", "web")["metadata"]["resourceVersion"]
        patch = '{"status":{"collisionCount":7}}'
        cluster.kubectl("patch", "deployment", "web", "--subresource=status", "--type=merge", "-p", patch)
        assert cluster.json("get", "deployment", "web")["metadata"]["resourceVersion"] != version
        done = await ask(kubectl, "scale_deployment", deployment="web", replicas=0)
        assert done["status"] == "done", done


async def test_rollback_goes_to_the_revision_before(
    kubectl: Client[Any], cluster: Any, web: Callable[..., str], settings: Settings
) -> None:
    cluster.apply(web("qd/web:1"))
    settled(cluster)
    cluster.kubectl("set", "image", "deployment/web", "web=qd/missing:2")
    fails(cluster, "ErrImagePull", "ImagePullBackOff")
    told = await ask(kubectl, "rollout_history", deployment="web")
    assert [r["images"] for r in told["revisions"]] == [["qd/missing:2"], ["qd/web:1"]]
    asked = await ask(kubectl, "rollback_deployment", deployment="web")
    assert "qd/web:1" in asked["after"]
    Changes.of(settings).grant(asked["change_id"], "the test")
    done = await ask(kubectl, "rollback_deployment", deployment="web")
    assert done["status"] == "done", done
    containers = cluster.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert [c["image"] for c in containers] == ["qd/web:1"]


async def test_a_manifest_is_shown_as_a_diff_and_applied(
    kubectl: Client[Any], cluster: Any, settings: Settings
) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: colours}\ndata: {sky: blue}\n"
    asked = await ask(kubectl, "apply_manifest", manifest=manifest)
    assert "+  sky: blue" in asked["after"]
    assert "NotFound" in cluster.kubectl("get", "configmap", "colours", ok=False)
    Changes.of(settings).grant(asked["change_id"], "the test")
    done = await ask(kubectl, "apply_manifest", manifest=manifest)
    assert done["status"] == "done", done
    changed = await ask(kubectl, "apply_manifest", manifest=manifest.replace("blue", "grey"))
    assert "-  sky: blue" in changed["after"]
    assert "+  sky: grey" in changed["after"]


async def test_secret_values_never_show(kubectl: Client[Any], cluster: Any, settings: Settings) -> None:
    manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: planted-hunter-22}\n"
    asked = await kubectl.call_tool("apply_manifest", {"manifest": manifest})
    assert asked.structured_content is not None
    Changes.of(settings).grant(asked.structured_content["change_id"], "the test")
    done = await kubectl.call_tool("apply_manifest", {"manifest": manifest})
    told = await kubectl.call_tool("get_resource", {"kind": "secret", "name": "login"})
    kept = b"".join(path.read_bytes() for path in settings.home.iterdir())
    everything = f"{asked}{done}{told}{kept!r}"
    assert "password" in str(told)
    assert "planted-hunter-22" not in everything
    assert "cGxhbnRlZC1odW50ZXItMjI=" not in everything
    assert cluster.json("get", "secret", "login")["data"] == {"password": "cGxhbnRlZC1odW50ZXItMjI="}


async def test_names_that_are_nearly_right_are_told(
    kubectl: Client[Any], cluster: Any, web: Callable[..., str]
) -> None:
    cluster.apply(web())
    for tool, arguments, near in (
        ("rollout_status", {"deployment": "wob"}, "web"),
        ("list_pods", {"namespace": cluster.namespace[:-1]}, cluster.namespace),
        ("list_resources", {"kind": "deploymant"}, "deployment"),
    ):
        result = await kubectl.call_tool(tool, arguments, raise_on_error=False)
        assert result.is_error
        assert near in result.content[0].text  # type: ignore[union-attr]


async def test_use_of_pods_and_nodes(kubectl: Client[Any], cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web(replicas=1))
    settled(cluster)
    cluster.wait("metrics are served", lambda: cluster.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1"))
    pods = await ask(kubectl, "top_pods")
    assert pods["rows"][0]["cpu_millicores"] > 0
    assert (await ask(kubectl, "top_nodes"))["total"] >= 2


async def test_a_node_is_cordoned_and_opened_again(kubectl: Client[Any], cluster: Any, settings: Settings) -> None:
    name = cluster.json("get", "nodes")["items"][0]["metadata"]["name"]
    for uncordon in (False, True):
        asked = await ask(kubectl, "cordon_node", node=name, uncordon=uncordon)
        Changes.of(settings).grant(asked["change_id"], "the test")
        done = await ask(kubectl, "cordon_node", node=name, uncordon=uncordon)
        assert done["status"] == "done", done
        assert bool(cluster.json("get", "node", name)["spec"].get("unschedulable")) is not uncordon
