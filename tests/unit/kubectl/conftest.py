"""An API server that says what a test tells it to say, byte for byte where that matters."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterdeck.keel.settings import KubectlSettings
from quarterdeck.kubectl.cluster import Cluster, Clusters

TOKEN = "planted-kube-token-4711"


@dataclass
class Api:
    """Answers each request with the next of `answers`; the last one is said again and again."""

    port: int
    answers: list[bytes | Callable[[socket.socket], None]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and target of every request."""
    headers: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def says(self, *answers: bytes | Callable[[socket.socket], None]) -> None:
        self.answers = list(answers)

    def serve(self, listener: socket.socket) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            try:
                while line := file.readline().decode():
                    method, target, _ = line.split(" ", 2)
                    head = ""
                    while (more := file.readline().decode()).strip():
                        head += more
                    length = next(
                        (int(h.split(":")[1]) for h in head.splitlines() if h.lower()[:15] == "content-length:"), 0
                    )
                    self.bodies.append(file.read(length).decode())
                    self.headers.append(head)
                    self.asked.append((method, target))
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    if callable(answer):
                        answer(connection)
                        return
                    connection.sendall(answer)
            except OSError:
                return


def answer(body: Any, code: int = 200, **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(data)}\r\n{said}\r\n".encode() + data


def status(code: int, message: str, causes: list[Any] | None = None, **headers: str) -> bytes:
    body = {"kind": "Status", "status": "Failure", "message": message, "details": {"causes": causes or []}}
    return answer(body, code, **headers)


@pytest.fixture
def api() -> Iterator[Api]:
    listener = socket.create_server(("127.0.0.1", 0))
    known = Api(listener.getsockname()[1])
    thread = threading.Thread(target=known.serve, args=(listener,), daemon=True)
    thread.start()
    yield known
    known.closing.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def write_kubeconfig(path: Path, url: str, token: str = TOKEN) -> Path:
    contexts = [
        {"name": n, "context": {"cluster": "c", "user": "u", "namespace": f"{n}-ns"}} for n in ("here", "there")
    ]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": contexts,
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def clusters(api: Api, tmp_path: Path) -> Clusters:
    path = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{api.port}")
    return Clusters(KubectlSettings(kubeconfig=str(path), timeout_s=0.5))


@pytest.fixture
def cluster(clusters: Clusters) -> Cluster:
    return clusters.use(None)
