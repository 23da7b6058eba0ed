"""One cluster in good and bad weather: every failure is a sentence, within the time-out, and retried only when safe."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import KubectlSettings
from quarterdeck.kubectl import resources
from quarterdeck.kubectl.cluster import ApiRefusal, Cluster, Clusters, path_of

from .conftest import TOKEN, Api, answer, status, write_kubeconfig

FINE = {"kind": "PodList", "items": []}


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(Refusal) as caught:
        call()
    said = str(caught.value)
    assert TOKEN not in said
    assert "\n" not in said
    assert len(said) < 600
    return said


def test_an_object_is_read_with_the_token_of_the_kubeconfig(api: Api, cluster: Cluster) -> None:
    api.says(answer(FINE))
    assert cluster.get("/api/v1/pods") == FINE
    assert f"Authorization: Bearer {TOKEN}" in api.headers[0]


def test_nobody_listening_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    path = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}")
    cluster = Clusters(KubectlSettings(kubeconfig=str(path))).use(None)
    assert "cannot be reached: Failed to establish" in refused(lambda: cluster.get("/api"))


def test_a_server_that_never_answers_is_given_up_in_time(api: Api, cluster: Cluster) -> None:
    api.says(lambda connection: api.closing.wait(5) and None)
    started = time.monotonic()
    assert "did not answer within 0.5 s" in refused(lambda: cluster.get("/api"))
    assert time.monotonic() - started < 4
    assert len(api.asked) == 1  # what was slow once is slow again


@pytest.mark.parametrize("head", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_an_answer_that_trickles_is_given_up(api: Api, cluster: Cluster, head: str) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        while not api.closing.wait(0.05):
            connection.sendall(b"1\r\n \r\n" if "chunked" in head else b" ")

    api.says(trickle)
    assert "comes too slowly" in refused(lambda: cluster.get("/api"))


def cut(head: str) -> Callable[[socket.socket], None]:
    def half(connection: socket.socket) -> None:
        connection.sendall(
            f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + (b'9\r\n{"items":' if "ch" in head else b"{")
        )

    return half


@pytest.mark.parametrize("head", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_half_an_answer_is_asked_for_again(api: Api, cluster: Cluster, head: str) -> None:
    api.says(cut(head), answer(FINE))
    assert cluster.get("/api") == FINE
    api.says(cut(head))
    assert "broke off inside its answer" in refused(lambda: cluster.get("/api"))


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b'{"items": [', b"", b"[1]", b"null", b"\xff\xfe"])
def test_what_is_no_json_object_is_said_to_be_none(api: Api, cluster: Cluster, body: bytes) -> None:
    api.says(answer(body))
    assert "half a response or no JSON" in refused(lambda: cluster.get("/api"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "refused it: the reason"),
        (401, "Log in again"),
        (403, "Not allowed in context here: the reason. Ask whoever runs the cluster"),
        (404, "Not found in context here: the reason"),
        (410, "start again without `page`"),
        (422, "refused it: the reason"),
        (429, "is busy (429) and asks to wait"),
        (500, "failed with 500: the reason"),
        (302, "failed with 302"),
    ],
)
def test_each_status_has_its_sentence(api: Api, cluster: Cluster, code: int, words: str) -> None:
    api.says(status(code, f"the reason {TOKEN}"))
    assert words in refused(lambda: cluster.get("/api")).replace(" [redacted]", "")


def test_a_busy_server_is_asked_again_after_the_time_it_names(api: Api, cluster: Cluster) -> None:
    api.says(status(429, "later", Retry_After="1"), answer(FINE))
    started = time.monotonic()
    assert cluster.get("/api") == FINE
    assert time.monotonic() - started >= 1


def test_nobody_waits_as_long_as_a_server_pleases(api: Api, cluster: Cluster) -> None:
    api.says(status(429, "later", Retry_After="3600"))
    assert "asks to wait 3600 s" in refused(lambda: cluster.get("/api"))
    assert len(api.asked) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_a_write_is_never_sent_twice(api: Api, cluster: Cluster, code: int) -> None:
    api.says(status(code, "later", Retry_After="0"))
    refused(lambda: cluster.send("PATCH", "/api/v1/x", {"a": 1}))
    api.says(cut("Content-Length: 100000"))
    refused(lambda: cluster.send("PATCH", "/api/v1/x", {"a": 1}))
    assert [method for method, _ in api.asked] == ["PATCH", "PATCH"]


def test_a_refusal_carries_the_causes_whole(api: Api, cluster: Cluster) -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "m{n}"', "field": f".a{n}"} for n in range(60)
    ]
    api.says(status(409, "x" * 5000, causes))
    with pytest.raises(ApiRefusal) as caught:
        cluster.send("PATCH", "/api/v1/x", {})
    assert len(caught.value.causes) == 60


def test_long_lists_come_in_pages_up_to_a_bound(api: Api, cluster: Cluster) -> None:
    pages = [{"items": [{"n": n}] * 2, "metadata": {"continue": f"p{n}"}} for n in range(5)]
    api.says(*(answer(page) for page in pages), answer({"items": [{"n": 9}], "metadata": {}}))
    found, whole = cluster.items("/api/v1/x", {"labelSelector": "a=b"})
    assert (len(found), whole) == (11, True)
    assert api.asked[1][1] == "/api/v1/x?labelSelector=a%3Db&continue=p0&limit=500"
    api.says(answer(pages[0]))
    found, whole = cluster.items("/api/v1/x", most=6)
    assert (len(found), whole) == (6, False)


def test_names_are_escaped_and_dots_are_no_names(api: Api, cluster: Cluster) -> None:
    assert path_of("v1", "pods", "a/b", "c?d#e%") == "/api/v1/namespaces/a%2Fb/pods/c%3Fd%23e%25"
    for name in (".", ".."):
        # `…/pods/..` is the namespace itself: a delete of that pod would delete the namespace.
        assert "is no name" in refused(lambda name=name: resources.POD.path("shop", name))
        assert "is no name" in refused(lambda name=name: resources.POD.path(name))
    assert api.asked == []


def test_only_the_current_context_may_be_used_unless_settings_say_more(clusters: Clusters) -> None:
    assert (clusters.use(None).name, clusters.use("here").namespace) == ("here", "here-ns")
    assert "may not be used here" in refused(lambda: clusters.use("there"))
    assert "is not in the kubeconfig. Usable: here." in refused(lambda: clusters.use("nowhere"))


def test_several_contexts_and_a_chosen_namespace(clusters: Clusters, tmp_path: Path) -> None:
    settings = KubectlSettings(
        kubeconfig=str(tmp_path / "kubeconfig"), contexts=["there", "gone"], namespace="mine", namespaces=["mine", "b"]
    )
    chosen = Clusters(settings)
    cluster = chosen.use(None)
    assert (cluster.name, chosen.namespace(cluster, None), chosen.namespace(cluster, "b")) == ("there", "mine", "b")
    assert "may not be used here. Allowed: mine, b." in refused(lambda: chosen.namespace(cluster, "kube-system"))


def test_after_a_new_login_the_new_token_is_used(api: Api, clusters: Clusters, tmp_path: Path) -> None:
    api.says(answer(FINE))
    clusters.use(None).get("/api")
    write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{api.port}", "a-longer-token-than-before")
    clusters.use(None).get("/api")
    assert "Bearer a-longer-token-than-before" in api.headers[1]


@pytest.mark.parametrize("text", ["", "just words", "a: [", "apiVersion: v1\nkind: Config\ncurrent-context: x\n"])
def test_a_broken_kubeconfig_is_said_to_be_broken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    clusters = Clusters(KubectlSettings(kubeconfig=str(path)))
    said = refused(lambda: clusters.use(None))
    assert "kubeconfig" in said
    assert "kubeconfig" in refused(lambda: Clusters(KubectlSettings(kubeconfig=str(tmp_path / "none"))).use(None))
