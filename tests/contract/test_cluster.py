"""The practice world behaves as a real Kubernetes API: one set of facts, held on both.

QUARTERDECK_TEST_KUBECONFIG=~/.kube/config pytest tests/contract      # holds them on that cluster too
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import urllib3
from kubernetes import client, config, watch


def rolled_out(cluster: Any) -> None:
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=30s")


def pods(cluster: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.json("get", "pods")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def core(cluster: Any) -> client.CoreV1Api:
    settings = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    urllib3.disable_warnings()
    return client.CoreV1Api(client.ApiClient(settings))


def test_discovery_lists_the_kinds_and_short_names_people_use(cluster: Any) -> None:
    # Right after a start an aggregated API may not answer yet, and then kubectl lists nothing at all.
    listed = cluster.wait("discovery is whole", lambda: _quietly(cluster, "api-resources", "--no-headers"))
    for short, kind in (
        ("po", "Pod"),
        ("deploy", "Deployment"),
        ("svc", "Service"),
        ("rs", "ReplicaSet"),
        ("ns", "Namespace"),
    ):
        assert any(line.split()[1] == short and line.split()[-1] == kind for line in listed.splitlines()), kind


def test_apply_creates_then_says_unchanged_then_configured(cluster: Any, web: Callable[..., str]) -> None:
    assert "created" in cluster.apply(web())
    assert "unchanged" in cluster.apply(web())
    assert "configured" in cluster.apply(web(replicas=3))


def test_tables_have_the_columns_of_kubectl(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    rolled_out(cluster)
    head, *rows = cluster.kubectl("get", "pods", "-o", "wide").splitlines()
    assert head.split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert len(rows) >= 2
    head = cluster.kubectl("get", "deployments").splitlines()[0]
    assert head.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]


def test_a_server_side_dry_run_changes_nothing(cluster: Any, web: Callable[..., str]) -> None:
    assert "dry run" in cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=web())
    assert "NotFound" in cluster.kubectl("get", "deployment", "web", ok=False)


def test_a_rollout_restart_really_replaces_the_pods(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    rolled_out(cluster)
    before = {pod["metadata"]["uid"] for pod in pods(cluster)}
    cluster.kubectl("rollout", "restart", "deployment/web")
    rolled_out(cluster)
    cluster.wait("old pods are gone", lambda: not before & {p["metadata"]["uid"] for p in pods(cluster)})
    assert len(pods(cluster)) == 2


def test_history_and_undo_go_back_to_the_template_before(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web("qd/web:1"))
    rolled_out(cluster)
    cluster.kubectl("set", "image", "deployment/web", "web=qd/web:2")
    rolled_out(cluster)
    lines = cluster.kubectl("rollout", "history", "deployment/web").splitlines()
    revisions = [line.split()[0] for line in lines if line[:1].isdigit()]
    assert revisions == ["1", "2"]
    cluster.kubectl("rollout", "undo", "deployment/web")
    rolled_out(cluster)
    deployment = cluster.json("get", "deployment", "web")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "qd/web:1"
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_a_failing_new_revision_leaves_the_old_one_serving(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    rolled_out(cluster)
    cluster.kubectl("set", "image", "deployment/web", "web=qd/missing:1")
    cluster.wait(
        "a pod of the new revision fails",
        lambda: any(waiting(pod) in ("ErrImagePull", "ImagePullBackOff") for pod in pods(cluster)),
    )
    status = cluster.json("get", "deployment", "web")["status"]
    assert status["availableReplicas"] == 2
    assert status["updatedReplicas"] >= 1


def test_scaling_makes_and_removes_pods(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    rolled_out(cluster)
    cluster.kubectl("scale", "deployment/web", "--replicas=4")
    cluster.wait("four pods", lambda: len(pods(cluster)) == 4)
    cluster.kubectl("scale", "deployment/web", "--replicas=1")
    cluster.wait("one pod", lambda: len(pods(cluster)) == 1)


def test_a_deleted_pod_is_replaced(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web(replicas=1))
    rolled_out(cluster)
    old = pods(cluster)[0]["metadata"]["name"]
    cluster.kubectl("delete", "pod", old, "--wait=false")
    cluster.wait("another pod", lambda: [p for p in pods(cluster) if p["metadata"]["name"] != old])


def waiting(pod: dict[str, Any]) -> str:
    for status in pod["status"].get("containerStatuses") or []:
        reason = status["state"].get("waiting", {}).get("reason")
        if reason:
            return str(reason)
    return ""


@pytest.mark.parametrize(
    ("image", "reasons", "ended"),
    [
        ("qd/crash:1", {"CrashLoopBackOff"}, ("Error", 1)),
        ("qd/oom:1", {"CrashLoopBackOff"}, ("OOMKilled", 137)),
        ("qd/missing:1", {"ErrImagePull", "ImagePullBackOff"}, None),
    ],
)
def test_failing_images_show_the_states_people_know(
    cluster: Any, web: Callable[..., str], image: str, reasons: set[str], ended: tuple[str, int] | None
) -> None:
    cluster.apply(web(image, 1))
    pod = cluster.wait("it fails", lambda: next((p for p in pods(cluster) if waiting(p) in reasons), None), 45)
    if ended:
        last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["reason"], last["exitCode"]) == ended
        assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1


def test_a_pod_that_is_not_ready_runs_but_does_not_count_as_available(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web("qd/notready:1", 1))
    cluster.wait("it runs", lambda: any(p["status"]["phase"] == "Running" for p in pods(cluster)))
    cluster.wait("an event says why", lambda: "Unhealthy" in cluster.kubectl("get", "events"))
    assert not cluster.json("get", "deployment", "web")["status"].get("availableReplicas")


def test_logs_by_tail_timestamps_and_container(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web(replicas=1))
    rolled_out(cluster)
    name = pods(cluster)[0]["metadata"]["name"]
    assert cluster.kubectl("logs", name, "--tail=2").splitlines() == ["line 9 of the log", "line 10 of the log"]
    stamped = cluster.kubectl("logs", name, "--tail=1", "--timestamps")
    assert stamped[4] == "-"
    assert "T" in stamped.split()[0]
    assert "container nope is not valid" in cluster.kubectl("logs", name, "-c", "nope", ok=False)


def test_the_log_of_a_container_that_never_started_is_refused_with_the_reason(
    cluster: Any, web: Callable[..., str]
) -> None:
    cluster.apply(web("qd/missing:1", 1))
    cluster.wait("it fails", lambda: any(waiting(p) in ("ErrImagePull", "ImagePullBackOff") for p in pods(cluster)))
    # Without a real kubelet behind it an API server cannot know; the wording is the kubelet's.
    if cluster.name == "practice":
        said = cluster.kubectl("logs", pods(cluster)[0]["metadata"]["name"], ok=False)
        assert "trying and failing to pull image" in said


def test_two_writers_of_one_version_conflict(cluster: Any) -> None:
    api = core(cluster)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"a": "1"}}
    first = api.create_namespaced_config_map(cluster.namespace, body)
    stale = first.metadata.resource_version
    first.data = {"a": "2"}
    api.replace_namespaced_config_map("shared", cluster.namespace, first)
    first.metadata.resource_version = stale
    with pytest.raises(client.ApiException) as caught:
        api.replace_namespaced_config_map("shared", cluster.namespace, first)
    assert caught.value.status == 409
    assert json.loads(caught.value.body)["reason"] == "Conflict"
    assert "the object has been modified" in json.loads(caught.value.body)["message"]


def test_generation_counts_changes_of_the_spec_only(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    rolled_out(cluster)
    before = cluster.json("get", "deployment", "web")["metadata"]["generation"]
    cluster.kubectl("label", "deployment/web", "team=a")
    assert cluster.json("get", "deployment", "web")["metadata"]["generation"] == before
    cluster.kubectl("scale", "deployment/web", "--replicas=1")
    assert cluster.json("get", "deployment", "web")["metadata"]["generation"] == before + 1


def test_errors_are_statuses_with_reason_and_code(cluster: Any) -> None:
    api = core(cluster)
    with pytest.raises(client.ApiException) as missing:
        api.read_namespaced_pod("nope", cluster.namespace)
    said = json.loads(missing.value.body)
    assert (said["kind"], said["code"], said["reason"]) == ("Status", 404, "NotFound")
    assert said["message"] == 'pods "nope" not found'
    with pytest.raises(client.ApiException) as invalid:
        api.create_namespaced_config_map(cluster.namespace, {"metadata": {"name": "Not_Valid"}})
    said = json.loads(invalid.value.body)
    assert (said["code"], said["reason"]) == (422, "Invalid")
    assert said["details"]["causes"][0]["field"] == "metadata.name"
    body = {"metadata": {"name": "twice"}}
    api.create_namespaced_config_map(cluster.namespace, body)
    with pytest.raises(client.ApiException) as twice:
        api.create_namespaced_config_map(cluster.namespace, body)
    assert json.loads(twice.value.body)["reason"] == "AlreadyExists"


def test_a_selector_that_does_not_match_its_template_is_refused(cluster: Any, web: Callable[..., str]) -> None:
    said = cluster.kubectl(
        "apply", "-f", "-", stdin=web().replace("matchLabels: {app: web}", "matchLabels: {app: x}"), ok=False
    )
    assert "selector" in said
    assert "does not match template" in said


def test_negative_replicas_are_refused(cluster: Any, web: Callable[..., str]) -> None:
    said = cluster.kubectl("apply", "-f", "-", stdin=web(replicas=-1), ok=False)
    assert "must be greater than or equal to 0" in said


def test_lists_come_in_pages_and_by_selector(cluster: Any) -> None:
    api = core(cluster)
    for number in range(5):
        labels = {"even": str(number % 2 == 0).lower()}
        api.create_namespaced_config_map(cluster.namespace, {"metadata": {"name": f"page-{number}", "labels": labels}})
    page = api.list_namespaced_config_map(cluster.namespace, limit=2, label_selector="even")
    assert len(page.items) == 2
    assert page.metadata._continue
    rest = api.list_namespaced_config_map(
        cluster.namespace, limit=9, _continue=page.metadata._continue, label_selector="even"
    )
    assert [item.metadata.name for item in page.items + rest.items] == [f"page-{n}" for n in range(5)]
    chosen = api.list_namespaced_config_map(cluster.namespace, label_selector="even in (true)")
    assert [item.metadata.name for item in chosen.items] == ["page-0", "page-2", "page-4"]
    one = api.list_namespaced_config_map(cluster.namespace, field_selector="metadata.name=page-3")
    assert [item.metadata.name for item in one.items] == ["page-3"]


def test_a_watch_tells_of_what_happens_in_order(cluster: Any) -> None:
    api = core(cluster)
    version = api.list_namespaced_config_map(cluster.namespace).metadata.resource_version
    seen: list[tuple[str, str]] = []

    def follow() -> None:
        stream = watch.Watch().stream(
            api.list_namespaced_config_map, cluster.namespace, resource_version=version, timeout_seconds=20
        )
        for event in stream:
            if event["object"].metadata.name == "seen":
                seen.append((event["type"], event["object"].metadata.resource_version))
            if event["type"] == "DELETED" and event["object"].metadata.name == "seen":
                return

    thread = threading.Thread(target=follow)
    thread.start()
    made = api.create_namespaced_config_map(cluster.namespace, {"metadata": {"name": "seen"}, "data": {"n": "1"}})
    made.data = {"n": "2"}
    api.replace_namespaced_config_map("seen", cluster.namespace, made)
    api.delete_namespaced_config_map("seen", cluster.namespace)
    thread.join(25)
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [int(v) for _, v in seen] == sorted(int(v) for _, v in seen)


def test_patches_of_all_kinds(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    cluster.kubectl("patch", "deployment", "web", "--type=merge", "-p", '{"metadata":{"labels":{"by":"merge"}}}')
    cluster.kubectl(
        "patch", "deployment", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/and","value":"json"}]'
    )
    sidecar = '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"qd/side:1"}]}}}}'
    cluster.kubectl("patch", "deployment", "web", "--type=strategic", "-p", sidecar)
    found = cluster.json("get", "deployment", "web")
    assert found["metadata"]["labels"] == {"app": "web", "by": "merge", "and": "json"}
    assert sorted(c["name"] for c in found["spec"]["template"]["spec"]["containers"]) == ["side", "web"]


def test_server_side_apply_knows_who_manages_what(cluster: Any) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: owned}\ndata: {a: VALUE, KEY: x}\n"
    apply = ["apply", "--server-side", "-f", "-"]
    cluster.kubectl(*apply, "--field-manager=one", stdin=manifest.replace("VALUE", "first").replace("KEY", "b"))
    said = cluster.kubectl(
        *apply, "--field-manager=two", stdin=manifest.replace("VALUE", "second").replace("KEY", "c"), ok=False
    )
    assert "conflict" in said
    assert ".data.a" in said
    assert '"one"' in said
    cluster.kubectl(
        *apply,
        "--field-manager=two",
        "--force-conflicts",
        stdin=manifest.replace("VALUE", "second").replace("KEY", "c"),
    )
    assert cluster.json("get", "configmap", "owned")["data"] == {"a": "second", "b": "x", "c": "x"}
    cluster.kubectl(*apply, "--field-manager=two", stdin=manifest.replace("VALUE", "second").replace(", KEY: x", ""))
    assert cluster.json("get", "configmap", "owned")["data"] == {"a": "second", "b": "x"}


def test_kubectl_diff_shows_what_apply_would_change(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web())
    said = cluster.kubectl("diff", "-f", "-", stdin=web("qd/web:9"), ok=False)
    assert "-        image: qd/web:1" in said
    assert "+        image: qd/web:9" in said


def test_a_cordoned_cluster_leaves_pods_pending_and_says_why(cluster: Any, web: Callable[..., str]) -> None:
    names = [node["metadata"]["name"] for node in cluster.json("get", "nodes")["items"]]
    try:
        for name in names:
            cluster.kubectl("cordon", name)
        cluster.apply(web(replicas=1))
        cluster.wait("an event says why", lambda: "FailedScheduling" in cluster.kubectl("get", "events"))
        said = cluster.kubectl("get", "events")
        assert f"0/{len(names)} nodes are available" in said
        assert "unschedulable" in said
    finally:
        for name in names:
            cluster.kubectl("uncordon", name)
    rolled_out(cluster)


def test_a_pod_quota_is_enforced_and_noted(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: few}\nspec: {hard: {pods: '1'}}\n")
    cluster.wait(
        "the quota is known", lambda: cluster.json("get", "quota", "few").get("status") or cluster.name == "practice"
    )
    cluster.apply(web(replicas=2))
    cluster.wait("an event says why", lambda: "FailedCreate" in cluster.kubectl("get", "events"))
    assert "exceeded quota: few" in cluster.kubectl("get", "events")


def test_custom_resources_are_served_once_defined(cluster: Any) -> None:
    minor = int("".join(filter(str.isdigit, json.loads(cluster.kubectl("get", "--raw", "/version"))["minor"])))
    if minor < 22:
        pytest.skip(f"API server 1.{minor}: old releases built with a newer Go crash when a custom resource is deleted")
    definition = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.harbour.example}
spec:
  group: harbour.example
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bt]}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {sails: {type: integer}}}}}}
    additionalPrinterColumns: [{name: Sails, type: integer, jsonPath: .spec.sails}]
"""
    cluster.apply(definition)
    try:
        cluster.kubectl("wait", "--for=condition=Established", "crd/boats.harbour.example", "--timeout=20s")
        boat = "apiVersion: harbour.example/v1\nkind: Boat\nmetadata: {name: anna}\nspec: {sails: 3}\n"
        cluster.wait("boats are served", lambda: _try(cluster, boat))
        head, row = cluster.kubectl("get", "bt").splitlines()
        assert head.split()[:2] == ["NAME", "SAILS"]
        assert row.split()[:2] == ["anna", "3"]
    finally:
        cluster.kubectl("delete", "crd", "boats.harbour.example")


def _try(cluster: Any, manifest: str) -> bool:
    try:
        cluster.apply(manifest)
    except AssertionError:
        return False
    return True


def test_rights_are_asked_and_refused_by_name(cluster: Any) -> None:
    assert cluster.kubectl("auth", "can-i", "delete", "pods").strip() == "yes"
    said = (
        cluster.kubectl("auth", "can-i", "delete", "pods", "--as=nobody-special", ok=False)
        if cluster.name == "real"
        else "no"
    )
    assert said.startswith("no")


def test_secrets_keep_what_was_put_in(cluster: Any) -> None:
    cluster.kubectl("create", "secret", "generic", "login", "--from-literal=password=hunter22")
    found = cluster.json("get", "secret", "login")
    assert found["data"] == {"password": "aHVudGVyMjI="}
    assert found["type"] == "Opaque"


def test_top_shows_the_use_of_pods(cluster: Any, web: Callable[..., str]) -> None:
    cluster.apply(web(replicas=1))
    rolled_out(cluster)
    cluster.wait("metrics are served", lambda: _quietly(cluster, "top", "pods", "--no-headers"))
    row = cluster.kubectl("top", "pods", "--no-headers").split()
    assert row[0].startswith("web-")
    assert row[1].endswith("m")
    assert row[2].endswith("Mi")


def _quietly(cluster: Any, *arguments: str) -> str:
    try:
        said: str = cluster.kubectl(*arguments)
    except AssertionError:
        return ""
    return said
