"""`quarterdeck diagnose` and `watch`, as a person at a terminal meets them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from messages_api import Fail, Say, Use, serve

from quarterdeck.titanium.story import PracticeWorld, practice_world
from quarterdeck.titanium.world import World

pytestmark = pytest.mark.timeout(120)
COMMAND = [sys.executable, "-P", "-m", "quarterdeck.deck.main"]


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    with practice_world(speed=8) as world:
        yield world


@pytest.fixture(autouse=True)
def calm(world: PracticeWorld) -> Iterator[None]:
    yield
    world.renew()


@pytest.fixture
def environment(world: PracticeWorld, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "QUARTERDECK_HOME": str(tmp_path / "home"),
        "QUARTERDECK_AGENTS_HEALTHY_S": "12",
        "QUARTERDECK_AGENTS_STEADY_S": "2",
        **world.environment(),
    }


def break_rollout(world: PracticeWorld) -> None:
    world.inject("bad-rollout")

    def fails(inside: World) -> bool:
        kind = inside.cluster.kinds.named("Pod")
        assert kind is not None
        pods = inside.cluster.store.all(kind, "titanium-local")
        states = [one for pod in pods for one in pod["status"].get("containerStatuses") or []]
        return any(one["name"] == "auth-service" and one["restartCount"] > 1 for one in states)

    world.wait_until(fails, "the new version fails", 40)


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            # A terminal's programs heed Ctrl-C, also when the suite itself runs in some script's background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def until(self, pattern: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.said):
            assert time.monotonic() < deadline, self.said
            if not self._read() and self.process.poll() is not None:
                self._read()
                assert re.search(pattern, self.said), self.said
                return

    def end(self, seconds: float = 30) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said
            self._read()
        while self._read():
            pass
        return int(self.process.returncode)

    def type(self, text: str) -> None:
        os.write(self.ours, f"{text}\n".encode())

    def _read(self) -> bool:
        if not select.select([self.ours], [], [], 0.2)[0]:
            return False
        try:
            self.said += os.read(self.ours, 65536).decode(errors="replace")
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=100, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_well_system_is_said_to_be_well(environment: dict[str, str]) -> None:
    done = run(environment, "diagnose")
    assert done.returncode == 0, done.stderr
    assert "Nothing is wrong" in done.stdout
    assert "5%  Looking for what is wrong" in done.stderr


@pytest.mark.parametrize(
    ("typed", "code", "told"),
    [("yes", 0, "Recovered."), ("no", 1, "Nothing was changed: a person refused the change.")],
)
def test_the_person_at_the_terminal_is_asked_and_decides(
    world: PracticeWorld, environment: dict[str, str], typed: str, code: int, told: str
) -> None:
    break_rollout(world)
    terminal = Terminal(environment, "diagnose", "auth")
    try:
        terminal.until("Type yes to allow it")
        assert "Roll deployment auth-service back" in terminal.said
        terminal.type(typed)
        assert terminal.end(60) == code, terminal.said
        assert told in terminal.said
    finally:
        terminal.close()


def test_only_looking_gives_a_report_for_programs_and_keeps_it(
    world: PracticeWorld, environment: dict[str, str]
) -> None:
    break_rollout(world)
    done = run(environment, "diagnose", "--only-look", "--json")
    assert done.returncode == 1, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["kind"], report["service"], report["outcome"]) == ("bad_rollout", "auth-service", "reported")
    kept = run(environment, "reports", "show", report["id"])
    assert kept.stdout.startswith("# auth-service")
    assert run(environment, "approve").stdout == "No change waits for you.\n"


def test_a_mistyped_service_gets_no_all_clear(environment: dict[str, str]) -> None:
    done = run(environment, "diagnose", "nonesuch-service")
    assert done.returncode == 1
    assert "There is no service 'nonesuch-service' here. There are: " in done.stderr
    assert "blog-service" in done.stderr


def test_ctrl_c_at_the_question_ends_the_run_and_changes_nothing(
    world: PracticeWorld, environment: dict[str, str]
) -> None:
    break_rollout(world)
    terminal = Terminal(environment, "diagnose")
    try:
        terminal.until("Type yes to allow it")
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 130, terminal.said
        assert "Traceback" not in terminal.said
        assert re.search(r"The run is cancelled\. What it asked \(ch-\w{8}\) is withdrawn\.", terminal.said)
        assert run(environment, "approve").stdout == "No change waits for you.\n"
    finally:
        terminal.close()
    again = run(environment, "diagnose", "--only-look")
    assert "bad_rollout" in again.stdout
    assert "already acts" not in again.stdout


def test_watching_deals_with_a_new_trouble_and_goes_on(world: PracticeWorld, environment: dict[str, str]) -> None:
    terminal = Terminal(environment, "watch", "--every", "1")
    try:
        terminal.until("nothing is wrong")
        break_rollout(world)
        terminal.until("Type yes to allow it")
        terminal.type("yes")
        terminal.until(r"Recovered\.")
        before = len(terminal.said)
        terminal.until(rf"(?s)^.{{{before}}}.*nothing is wrong", 30)
        os.killpg(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 130, terminal.said
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("diagnose", "--every", "0"), "--every takes seconds from 1"),
        (("agents", "--host", "0.0.0.0"), "no bearer token is configured"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    environment: dict[str, str], arguments: tuple[str, ...], told: str
) -> None:
    done = run(environment, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def cause(kind: str, service: str, cites: str) -> dict[str, Any]:
    return {"kind": kind, "service": service, "summary": "what it is", "confidence": 0.9, "cites": [cites]}


def test_a_model_beside_the_rules_looks_further_and_its_disagreement_is_shown(
    world: PracticeWorld, environment: dict[str, str]
) -> None:
    break_rollout(world)
    wrong = cause("oom_killed", "blog-service", "e999")
    right = cause("bad_configuration", "auth-service", "e2")
    claims = {
        "healthy": False, "causes": [right, wrong], "alternatives": [], "proposal": None,
        "no_action_because": "ask a person", "advice": ["Set TOKEN_ISSUER_URL."], "missing": [],
    }  # fmt: skip
    with serve(Use((("kubectl__rollout_history", {"deployment": "auth-service"}),)), Say(claims)) as api:
        model = {"QUARTERDECK_MODEL_API_KEY": "sk-ant-test-0123456789", "QUARTERDECK_MODEL_BASE_URL": api.url}
        done = run(environment | model, "diagnose", "--only-look", "--json")
    report = json.loads(done.stdout)
    assert (report["kind"], report["service"]) == ("bad_rollout", "auth-service"), "the rules know it, so they win"
    comparison = report["comparison"]
    assert (comparison["used"], comparison["cause"], comparison["service"]) == ("rules", "disagree", "agree")
    assert any("e999" in text and "does not exist" in text for text in comparison["dropped"])
    assert report["usage"]["calls"] == 2
    offered = {tool["name"] for tool in api.requests[0]["tools"]}
    assert "kubectl__rollout_history" in offered
    assert not [name for name in offered if name.endswith(("restart_deployment", "apply_manifest", "delete_pod"))]
    assert "sk-ant-test" not in done.stdout + done.stderr


def test_a_model_that_fails_leaves_the_rules_judgement_and_says_so(
    world: PracticeWorld, environment: dict[str, str]
) -> None:
    break_rollout(world)
    with serve(*[Fail(529, "overloaded_error")] * 6) as api:
        model = {"QUARTERDECK_MODEL_API_KEY": "sk-ant-test-0123456789", "QUARTERDECK_MODEL_BASE_URL": api.url}
        done = run(environment | model, "diagnose", "--only-look", "--markdown")
    assert "`bad_rollout` at `auth-service`" in done.stdout
    assert "The model has no say" in done.stdout
