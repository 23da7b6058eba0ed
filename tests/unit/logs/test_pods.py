"""Logs of pods over the Kubernetes API: which pods are meant, every container, and what goes wrong on the way."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import KubectlSettings
from quarterdeck.logs.pods import Pods
from quarterdeck.logs.search import Pattern, Stop
from quarterdeck.logs.sources import Found, Reading, Window

NAMESPACE = "titanium-local"
ALWAYS = Window()
Answer = tuple[int, Any]


@dataclass
class Api:
    """A Kubernetes API over HTTP that knows a few objects, and fails where it is told to."""

    url: str = ""
    objects: dict[str, Any] = field(default_factory=dict)
    logs: dict[tuple[str, str, bool], str] = field(default_factory=dict)
    fail: Callable[[str], Answer | None] = lambda path: None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        self.asked.append((path, query))
        if (failure := self.fail(path)) is not None:
            return failure
        if path.endswith("/log"):
            pod = path.split("/")[-2]
            text = self.logs.get((pod, query["container"], query.get("previous") == "true"))
            if text is None:
                return 400, status(
                    f'container "{query["container"]}" in pod "{pod}" is waiting to start: ImagePullBackOff'
                )
            return 200, "".join(text.splitlines(keepends=True)[-int(query["tailLines"]) :])
        if path in self.objects:
            return 200, self.objects[path]
        prefix = f"{path}/"
        items = [value for key, value in self.objects.items() if key.startswith(prefix)]
        wanted = dict(term.split("=") for term in query.get("labelSelector", "").split(",") if term)
        items = [item for item in items if wanted.items() <= item["metadata"].get("labels", {}).items()]
        if path.rsplit("/", 1)[1] in ("pods", "deployments", "statefulsets", "daemonsets", "services"):
            return 200, {"items": items}
        return 404, status(f'"{path.rsplit("/", 1)[1]}" not found')

    def deployment(self, name: str) -> None:
        self.objects[f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"] = {
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}},
        }

    def pod(self, name: str, app: str, *containers: str, crashed: bool = False, ready: bool = True) -> None:
        statuses = [
            {"name": container, "ready": ready, "lastState": {"terminated": {"exitCode": 1}} if crashed else {}}
            for container in containers
        ]
        self.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"] = {
            "metadata": {"name": name, "labels": {"app": app}, "creationTimestamp": "2026-11-21T03:00:00Z"},
            "spec": {"containers": [{"name": container} for container in containers]},
            "status": {"containerStatuses": statuses},
        }


def status(message: str) -> dict[str, str]:
    return {"kind": "Status", "status": "Failure", "message": message}


@pytest.fixture
def api() -> Iterator[Api]:
    known = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            code, body = known.answer(place.path, {key: value[0] for key, value in parse_qs(place.query).items()})
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(abs(code))
            self.send_header("Content-Length", str(len(data) + (100 if code < 0 else 0)))  # negative: half an answer
            if code == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pods(api: Api, tmp_path: Path) -> Pods:
    return Pods(kubectl_settings(tmp_path, api.url), 5.0)


def kubectl_settings(folder: Path, url: str, **settings: Any) -> KubectlSettings:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "kube-t0ken-value"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(config))
    return KubectlSettings(kubeconfig=str(folder / "config"), **settings)


def log(*lines: str, minute: int = 0) -> str:
    return "".join(f"2026-11-21T04:{minute:02d}:{i:02d}.000000001Z {line}\n" for i, line in enumerate(lines))


def read(pods: Pods, service: str | None, most: int = 1000, window: Window = ALWAYS) -> Reading:
    return asyncio.run(pods.read(service, window, most, Stop(30)))


def search(pods: Pods, service: str, pattern: str, limit: int = 20, context: int = 0) -> Found:
    return asyncio.run(pods.search(service, Pattern(pattern), Window(), limit, context, Stop(30)))


def two_pods(api: Api) -> None:
    api.deployment("blog-service")
    api.pod("blog-1", "blog-service", "app", "proxy", crashed=True)
    api.pod("blog-2", "blog-service", "app")
    api.pod("auth-1", "auth", "app")
    trace = (
        "ERROR: no",
        "Traceback (most recent call last):",
        "  File 'a.py'",
        "sqlite3.OperationalError: database is locked",
    )
    api.logs = {
        ("blog-1", "app", True): log(*trace, minute=1),
        ("blog-1", "app", False): log("INFO: started", minute=2),
        ("blog-1", "proxy", True): log("bye", minute=1),
        ("blog-1", "proxy", False): log("hello", minute=3),
        ("blog-2", "app", False): log("INFO: a", "INFO: b", minute=1),
        ("auth-1", "app", False): log("INFO: auth"),
    }


def test_all_pods_containers_and_the_instance_before_a_crash_are_read_in_order(api: Api, pods: Pods) -> None:
    two_pods(api)
    reading = read(pods, "blog-service")
    assert [(record.source, record.body) for record in reading.records] == [
        ("blog-1/app (before its restart)", "ERROR: no"),
        ("blog-1/proxy (before its restart)", "bye"),
        ("blog-2", "INFO: a"),
        ("blog-2", "INFO: b"),
        ("blog-1/app", "INFO: started"),
        ("blog-1/proxy", "hello"),
    ]
    assert reading.records[0].text.endswith("database is locked")
    assert not reading.more
    assert not reading.notes


def test_a_search_goes_through_all_of_them(api: Api, pods: Pods) -> None:
    two_pods(api)
    found = search(pods, "blog-service", "locked|INFO: b", context=1)
    assert [hit.record.body for hit in found.hits] == ["ERROR: no", "INFO: b"]
    assert found.hits[0].record.text.endswith("database is locked")
    assert found.hits[1].before == ["INFO: a"]
    assert (found.matches, found.complete, len(found.parts)) == (2, True, 5)


@pytest.mark.parametrize("name", ["svc", "labelled", "pod-x", "Labelled"])
def test_a_service_may_be_a_service_a_label_or_a_pod(api: Api, pods: Pods, name: str) -> None:
    api.pod("pod-x", "labelled", "app")
    api.logs = {("pod-x", "app", False): log("found")}
    api.objects[f"/api/v1/namespaces/{NAMESPACE}/services/svc"] = {
        "metadata": {"name": "svc"},
        "spec": {"selector": {"app": "labelled"}},
    }
    if name == "Labelled":
        api.deployment("labelled")
    assert [record.body for record in read(pods, name).records] == ["found"]


def test_all_means_every_pod_of_the_namespace(api: Api, pods: Pods) -> None:
    two_pods(api)
    assert {record.source.split("/")[0].split(" ")[0] for record in read(pods, None).records} == {
        "blog-1",
        "blog-2",
        "auth-1",
    }
    api.deployment("auth")
    assert asyncio.run(pods.services()) == ["auth", "blog-service"]


def test_the_api_is_asked_for_no_more_than_is_wanted(api: Api, pods: Pods) -> None:
    two_pods(api)
    reading = read(pods, "blog-service", most=1, window=Window(start=1795233601.5))
    assert reading.more
    queries = [query for path, query in api.asked if path.endswith("/log")]
    assert all(query["tailLines"] == "4" and query["sinceTime"] == "2026-11-21T04:00:01Z" for query in queries)


def test_a_container_that_cannot_be_read_is_a_note_and_the_rest_is_shown(api: Api, pods: Pods) -> None:
    two_pods(api)
    del api.logs["blog-2", "app", False]
    reading = read(pods, "blog-service")
    assert len(reading.records) == 4
    assert reading.notes == ['blog-2: container "app" in pod "blog-2" is waiting to start: ImagePullBackOff']


def test_an_unknown_service_is_answered_with_near_names(api: Api, pods: Pods) -> None:
    two_pods(api)
    with pytest.raises(Refusal, match="Did you mean blog-service"):
        read(pods, "blog-servise")
    for name in ("../secrets", "a/../b", "x y", "a%2fb", "-", "?"):
        with pytest.raises(Refusal, match="There is no service"):
            read(pods, name)
    assert all("secrets" not in path and ".." not in path for path, _ in api.asked)
    assert read(pods, "Blog_Service").records


def test_a_namespace_that_settings_do_not_list_is_refused(api: Api, tmp_path: Path) -> None:
    pods = Pods(kubectl_settings(tmp_path, api.url, namespaces=[NAMESPACE]), 5.0)
    two_pods(api)
    assert read(pods, f"{NAMESPACE}/blog-service").records
    with pytest.raises(Refusal, match=r"'kube-system' may not be read. These may: titanium-local"):
        read(pods, "kube-system/dns")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, status("Unauthorized")), "does not accept our credentials"),
        ((403, status('pods is forbidden: User "viewer" cannot list')), "Not allowed .403.: pods is forbidden"),
        ((429, status("too many requests")), "busy .429."),
        ((500, "oops"), "answered 500"),
        ((200, "<html>login</html>"), "half an answer, or no JSON"),
        ((-200, '{"items": ['), "cannot be reached|half an answer"),
    ],
    ids=["401", "403", "429", "500", "html", "half"],
)
def test_what_the_api_server_refuses_is_said_in_a_sentence(api: Api, pods: Pods, answer: Answer, said: str) -> None:
    api.fail = lambda path: answer
    with pytest.raises(Refusal, match=said) as refused:
        read(pods, "blog-service")
    assert "kube-t0ken" not in str(refused.value)


def test_a_busy_api_server_is_asked_once_more(api: Api, pods: Pods) -> None:
    two_pods(api)
    refused = [(429, status("busy"))]
    api.fail = lambda path: refused.pop() if refused else None
    assert read(pods, "blog-service").records


def test_an_api_server_that_is_down_is_said_with_its_address(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"http://127.0.0.1:9 cannot be reached"):
        read(Pods(kubectl_settings(tmp_path, "http://127.0.0.1:9"), 2.0), "x")


def test_an_api_server_that_never_answers_is_given_up_in_time(api: Api, tmp_path: Path) -> None:
    release = threading.Event()
    api.fail = lambda path: (release.wait(20), (500, "late"))[1]
    try:
        with pytest.raises(Refusal, match=r"did not answer within 0.2 s"):
            read(Pods(kubectl_settings(tmp_path, api.url), 0.2), "x")
    finally:
        release.set()


def test_a_kubeconfig_that_cannot_be_used_is_said_with_how_to_name_another(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("not: [a, kubeconfig")
    for path in (tmp_path / "bad", tmp_path / "missing"):
        with pytest.raises(Refusal, match="QUARTERDECK_KUBECTL_KUBECONFIG"):
            read(Pods(KubectlSettings(kubeconfig=str(path)), 5.0), "x")


def test_without_any_kubeconfig_the_one_thing_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import kube_config

    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(Refusal, match=r"^No usable kubeconfig.*`quarterdeck world`"):
        read(Pods(KubectlSettings(), 5.0), "x")
