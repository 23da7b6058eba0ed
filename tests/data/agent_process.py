"""`quarterdeck agents` as a process of its own on the practice world, to be called, killed and started again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

from quarterdeck.keel.changes import Changes
from quarterdeck.keel.settings import ChangesSettings
from quarterdeck.titanium.story import PracticeWorld
from quarterdeck.titanium.world import World

TOKENS = ("kim", "boss", "reader")
CONFIG = "\n".join(
    f'[[http.tokens]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\nscopes = {scopes}\n'
    for name, scopes in zip(TOKENS, ('["read", "change"]', '["read", "change", "approve"]', '["read"]'), strict=True)
)


class Agent:
    """`quarterdeck agents` in a process of its own, over one home."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home, self.environment = home, environment
        self.changes = Changes(ChangesSettings(), home)
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "quarterdeck.deck.main", "agents", "--port", "0"]
        self.log = (self.home / "agent.log").open("ab")
        self.process = subprocess.Popen(command, env=self.environment, stderr=self.log, stdin=subprocess.DEVNULL)
        self.url = ""
        before = (self.home / "agent.log").stat().st_size

        def up() -> bool:
            said = (self.home / "agent.log").read_bytes()[before:].decode()
            found = re.search(r"health (http://\S+)/healthz", said)
            self.url = found[1] if found else ""
            try:
                return bool(self.url) and httpx.get(f"{self.url}/healthz", timeout=2).text == "ok\n"
            except httpx.TransportError:
                return False

        until(up, "the agent serves", 40)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)
        self.log.close()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)
            raise
        finally:
            self.log.close()

    def post(self, path: str, body: Any, token: str = "kim", timeout: float = 60) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}", "a2a-version": "1.0"}
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=timeout)

    def get(self, path: str, token: str = "kim", **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"authorization": f"Bearer {token}", **headers}, timeout=20)

    def rpc(self, method: str, params: dict[str, Any], token: str = "kim") -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        found: dict[str, Any] = self.post("/remediation/", body, token).json()
        return found

    def send(self, text: str, id: str, token: str = "kim", **more: Any) -> dict[str, Any]:
        message = {"messageId": id, "role": "ROLE_USER", "parts": [{"text": text}], **more}
        return self.rpc("SendMessage", {"message": message}, token)

    def asked(self, id: str, token: str = "kim") -> dict[str, Any]:
        """Wait until the task asks for its change; the change as it is shown."""

        def look() -> Any:
            found = self.get(f"/agent/report/{id}", token).json()
            assert found.get("state") in ("working", "waiting"), found
            return found.get("question")

        return dict(until(look, "the agent asks", 60))

    def ended(self, id: str, token: str = "kim") -> dict[str, Any]:
        def look() -> Any:
            response = self.get(f"/agent/report/{id}", token)
            return response.json() if response.status_code == 200 and "outcome" in response.json() else None

        return dict(until(look, "the run ends", 90))

    def approve(self, change: str) -> None:
        self.changes.grant(change, by="kim in a terminal")


def until(look: Callable[[], Any], what: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return found


@dataclass
class Webhook:
    """Where escalations go, and what came."""

    url: str
    told: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """Their Idempotency-Key."""
    status: int = 200


@contextmanager
def webhook() -> Iterator[Webhook]:
    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            made.keys.append(self.headers["idempotency-key"])
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    made = Webhook(f"http://127.0.0.1:{server.server_port}/hook/secret")
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def agent_process(
    home: Path, world: PracticeWorld, hook: Webhook | None = None, config: str = "", **settings: str
) -> Iterator[Agent]:
    """The agent over a new home. `settings`: QUARTERDECK_* without the prefix; `config`: more of the settings file."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "quarterdeck.toml").write_text(f"{CONFIG}\n{config}")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        **world.environment(),
        "QUARTERDECK_HOME": str(home),
        "QUARTERDECK_CONFIG": str(home / "quarterdeck.toml"),
        "QUARTERDECK_STATS_SAMPLE_EVERY_S": "0.3",
        "QUARTERDECK_AGENTS_HEALTHY_S": "12",
        "QUARTERDECK_AGENTS_STEADY_S": "2",
        "QUARTERDECK_AGENTS_ESCALATE_URL": hook.url if hook is not None else "",
        **{f"QUARTERDECK_{name}": value for name, value in settings.items()},
    }
    agent = Agent(home, environment)
    try:
        yield agent
    finally:
        agent.stop()


def broken(world: PracticeWorld, fault: str, service: str) -> None:
    """Break something, and wait until it shows for good: three ends, so that a moment of running hides nothing; or the
    pods are gone."""
    world.inject(fault)

    def suffers(inside: World) -> bool:
        pods = inside.cluster.store.all(inside.cluster.kinds.named("Pod"), "titanium-local")
        own = [pod["status"] for pod in pods if pod["metadata"]["name"].startswith(service)]
        containers = [one for status in own for one in status.get("containerStatuses") or []]
        return not own or any(one["restartCount"] > 2 for one in containers if not one["ready"])

    world.wait_until(suffers, f"{service} suffers", 40)
