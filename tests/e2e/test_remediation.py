"""The remediation agent as a process: over A2A, REST and alerts, with a person's yes in a terminal, through kill -9."""

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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from quarterdeck.keel import audit
from quarterdeck.keel.changes import Changes
from quarterdeck.keel.settings import ChangesSettings
from quarterdeck.titanium.story import PracticeWorld, practice_world
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
        self.process.wait(timeout=20)
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


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=8) as world:
        yield world


@pytest.fixture(scope="module")
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Where escalations go."""
    told: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook/secret", told
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def agent(
    world: PracticeWorld, hook: tuple[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Agent]:
    home = tmp_path_factory.mktemp("agent")
    config = home / "quarterdeck.toml"
    config.write_text(CONFIG)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        **world.environment(),
        "QUARTERDECK_HOME": str(home),
        "QUARTERDECK_CONFIG": str(config),
        "QUARTERDECK_STATS_SAMPLE_EVERY_S": "0.3",
        "QUARTERDECK_AGENTS_HEALTHY_S": "12",
        "QUARTERDECK_AGENTS_STEADY_S": "2",
        "QUARTERDECK_AGENTS_ESCALATE_URL": hook[0],
    }
    agent = Agent(home, environment)
    yield agent
    agent.stop()


@pytest.fixture(autouse=True)
def calm(world: PracticeWorld) -> Iterator[None]:
    yield
    world.clear()
    world.wait_until(lambda world: world.all_ready(), "the system is well again", 40)


def broken(world: PracticeWorld, fault: str, service: str) -> None:
    """Break something, and wait until it shows: a container ended or cannot start, or the pods are gone."""
    world.inject(fault)

    def suffers(inside: World) -> bool:
        pods = inside.cluster.store.all(inside.cluster.kinds.named("Pod"), "titanium-local")
        own = [pod["status"] for pod in pods if pod["metadata"]["name"].startswith(service)]
        containers = [one for status in own for one in status.get("containerStatuses") or []]
        return not own or any(one["restartCount"] > 1 for one in containers if not one["ready"])

    world.wait_until(suffers, f"{service} suffers", 40)


def test_the_whole_story_over_a2a_with_a_yes_from_the_terminal(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    task = agent.send("Something is wrong with the blog. Mend it.", "story")["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    words, data = task["status"]["message"]["parts"]
    assert "database is locked" in words["text"]
    assert data["metadata"] == {"quarterdeck.change": True}
    assert "restartedAt" in data["data"]["before"]
    assert data["data"]["undo"]

    said = agent.send("yes", "forged", taskId=task["id"])["error"]["message"]
    assert "may not approve" in said
    agent.approve(data["data"]["change_id"])
    report = agent.ended(task["id"])
    assert (report["outcome"], report["kind"], report["service"]) == ("recovered", "database_locked", "blog-service")
    assert report["done"][0]["granted_by"] == "kim in a terminal"
    assert any("WAL" in advice or "write-ahead" in advice for advice in report["next"])
    assert {"requests", "ready pods"} <= {figure["name"] for figure in report["figures"]}
    cited = set(report["root"]["cites"])
    assert cited <= {one["id"] for one in report["evidence"]}

    done = agent.rpc("GetTask", {"id": task["id"]})["result"]
    assert done["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [artifact["name"] for artifact in done["artifacts"]] == ["report.md", "report.json"]
    markdown = agent.get(f"/agent/report/{report['id']}", accept="text/markdown").text
    assert markdown.startswith("# blog")
    found = agent.get("/agent/reports?q=locked").json()["reports"]
    assert report["id"] in {row["id"] for row in found}


def test_a_yes_over_a2a_from_an_approver_is_a_grant_and_a_no_ends_with_a_report(
    world: PracticeWorld, agent: Agent
) -> None:
    broken(world, "dependency", "redis")
    task = agent.send("mend it", "no-thanks", "boss")["result"]["task"]
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED", task["status"]
    refused = agent.send("no", "answer-no", "boss", taskId=task["id"])["result"]["task"]
    assert refused["status"]["state"] == "TASK_STATE_COMPLETED"
    report = agent.ended(task["id"], "boss")
    assert (report["outcome"], report["service"], report.get("done")) == ("refused", "redis", [])
    assert "refused" in report["not_done_because"]

    task = agent.send("mend it", "again", "boss")["result"]["task"]
    agent.send("yes", "answer-yes", "boss", taskId=task["id"])
    report = agent.ended(task["id"], "boss")
    assert (report["outcome"], report["kind"]) == ("recovered", "scaled_to_zero")
    assert report["done"][0]["granted_by"] == "boss over A2A"
    assert report["similar"]["count"] == 1


def test_nothing_wrong_ends_at_once_and_a_reader_gets_an_analysis_only(world: PracticeWorld, agent: Agent) -> None:
    well = agent.post("/agent/diagnose", {"wait_s": 60}).json()
    assert well["outcome"] == "healthy", well
    broken(world, "bad-rollout", "auth-service")
    said = agent.post("/agent/diagnose", {"text": "what is wrong?", "wait_s": 60}, "reader").json()
    assert (said["outcome"], said["state"]) == ("reported", "completed")
    report = agent.get(f"/agent/report/{said['id']}", "reader").json()
    assert (report["kind"], report["service"]) == ("bad_rollout", "auth-service")
    assert "may not have changes made" in report["not_done_because"]


def test_what_no_restart_mends_is_not_acted_on_but_escalated(
    world: PracticeWorld, agent: Agent, hook: tuple[str, list[dict[str, Any]]]
) -> None:
    hook[1].clear()
    broken(world, "disk-full", "blog-service")
    said = agent.post("/agent/diagnose", {"service": "blog_service", "wait_s": 60}).json()
    assert said["outcome"] == "reported", said
    report = agent.get(f"/agent/report/{said['id']}").json()
    assert (report["kind"], report["service"]) == ("disk_full", "blog-service")
    assert hook[1][0]["text"].startswith("*blog-service")
    assert report["id"] in hook[1][0]["text"]


def test_a_storm_of_alerts_becomes_one_task_and_what_is_known_starts_nothing(
    world: PracticeWorld, agent: Agent
) -> None:
    def notification(numbers: range, status: str = "firing", group: str = "storm") -> dict[str, Any]:
        alerts = [
            {
                "status": status,
                "labels": {"alertname": "Down", "service": "blog-service", "pod": f"p{number}"},
                "annotations": {"summary": "blog-service is down"},
                "startsAt": "2026-11-21T08:00:00Z",
                "fingerprint": f"{number:016x}",
            }
            for number in numbers
        ]
        labels = {"alertname": "Down", "service": "blog-service"}
        return {
            "version": "4", "groupKey": group, "status": status, "receiver": "quarterdeck",
            "groupLabels": labels, "commonLabels": labels, "commonAnnotations": {}, "externalURL": "", "alerts": alerts,
        }  # fmt: skip

    broken(world, "disk-full", "blog-service")
    assert httpx.post(f"{agent.url}/agent/alerts", json=notification(range(3))).status_code == 401
    first = agent.post("/agent/alerts", notification(range(1000))).json()
    assert (first["new"], bool(first["task"])) == (1000, True)
    again = agent.post("/agent/alerts", notification(range(500))).json()
    more = agent.post("/agent/alerts", notification(range(990, 1010))).json()
    assert again == {"task": first["task"], "new": 0}
    report = agent.ended(first["task"])
    assert (report["kind"], report["service"]) == ("disk_full", "blog-service")
    assert more["new"] == 10
    known = agent.post("/agent/alerts", notification(range(1000))).json()
    assert known["new"] == 0
    other = agent.post("/agent/alerts", notification(range(1), group="other")).json()
    assert other["task"] != first["task"]
    assert agent.post("/agent/alerts", notification(range(3), "resolved")).json()["task"] is None
    for wrong in ([], {"alerts": 3}, {"alerts": [{"labels": 3}]}, {"alerts": [{}] * 5001}):
        assert agent.post("/agent/alerts", wrong).status_code == 400


def test_an_approval_outlives_the_process_and_the_change_happens_once(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    task = agent.send("mend the blog", "outlive")["result"]["task"]
    change = task["status"]["message"]["parts"][1]["data"]["change_id"]
    agent.kill()
    agent.approve(change)
    agent.start()
    report = agent.ended(task["id"])
    assert report["outcome"] == "recovered", report["not_done_because"]
    assert [done["change"] for done in report["done"]] == [change]
    events = [one["event"] for one in audit.entries(agent.changes.trail) if one.get("change") == change]
    assert events.count("started") == events.count("applied") == 1
    same = agent.send("mend the blog", "outlive")["result"]["task"]
    assert (same["id"], same["status"]["state"]) == (task["id"], "TASK_STATE_COMPLETED")


def test_of_two_runs_on_one_trouble_only_one_acts(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    first = agent.send("mend the blog", "first")["result"]["task"]
    assert first["status"]["state"] == "TASK_STATE_INPUT_REQUIRED", first["status"]
    second = agent.send("mend the blog", "second")["result"]["task"]
    assert second["status"]["state"] == "TASK_STATE_COMPLETED"
    assert "already acts" in agent.ended(second["id"])["not_done_because"]
    cancelled = agent.rpc("CancelTask", {"id": first["id"]})["result"]
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
    third = agent.send("mend the blog", "third")["result"]["task"]
    assert third["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    agent.rpc("CancelTask", {"id": third["id"]})


def test_a_tool_server_that_cannot_see_is_named_and_not_guessed_around(world: PracticeWorld, agent: Agent) -> None:
    broken(world, "blog-locked", "blog-service")
    for _ in range(400):
        world.weather("503")
    said = agent.post("/agent/diagnose", {"wait_s": 90}, timeout=120).json()
    world.call(lambda world: world.cluster.weather.gusts.clear())
    report = agent.get(f"/agent/report/{said['id']}").json()
    assert report["outcome"] == "reported", report["outcome"]
    assert any("kubectl" in missing for missing in report["missing"])


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b'{"service": 3}', b'{"act": "no"}', b'{"wait_s": 1e9}'])
def test_a_wrong_call_is_answered_in_a_sentence(agent: Agent, body: bytes) -> None:
    headers = {"authorization": "Bearer kim"}
    response = httpx.post(f"{agent.url}/agent/diagnose", content=body, headers=headers, timeout=20)
    assert response.status_code == 400
    assert response.json()["error"].endswith(".")
    assert agent.get("/agent/report/rp-nothere").status_code == 404
