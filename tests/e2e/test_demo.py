"""The first thing a newcomer runs."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quarterdeck.deck import demo

pytestmark = pytest.mark.timeout(150)  # it really takes half a minute, and longer on a busy machine
COMMAND = [sys.executable, "-m", "quarterdeck.deck.main", "demo"]


def environ(home: Path) -> dict[str, str]:
    """A clean environment: no cluster, no key, a home of its own."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TERM", "VIRTUAL_ENV")}
    return {**kept, "HOME": str(home)}


def test_the_demo_tells_the_whole_story_without_a_terminal(tmp_path: Path) -> None:
    proxies = dict.fromkeys(("http_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")  # as on many a company's machine
    done = subprocess.run(
        COMMAND,
        env=environ(tmp_path) | proxies,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    story = [
        "OFFLINE  blog_service",
        "CrashLoopBackOff",
        "database is locked",
        "APPROVAL_REQUIRED",
        "DONE: Restart deployment blog-service",
        "all 5 services are online",
        "Root cause: The new revision of auth-service fails",
        "Done: rollback_deployment by the grant of the demo",
        "Whole:",
    ]
    places = [done.stdout.find(words) for words in story]
    assert -1 not in places, done.stdout
    assert places == sorted(places)
    assert list(tmp_path.iterdir()) == []  # it left nothing behind
    assert "`quarterdeck world`" in done.stdout[places[-1] :]
    recorded = [line for line in done.stdout.splitlines() if re.match(r"\s+\d+  \d{4}-", line)]
    assert len(recorded) == 10
    assert all(len(line) <= 104 and line.endswith("…") for line in recorded)


@pytest.mark.parametrize(("typed", "told"), [("yes", "DONE: Restart"), ("no", "Nothing was changed")])
def test_a_person_at_the_terminal_decides(typed: str, told: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(COMMAND, env=environ(tmp_path), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said, answered = "", 0
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    said += os.read(ours, 65536).decode(errors="replace")
                except OSError:
                    break
            if said.count("Type yes to allow it") > answered:
                os.write(ours, f"{typed}\n".encode())
                answered += 1
            if process.poll() is not None and not select.select([ours], [], [], 0.2)[0]:
                break
        assert process.wait(10) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert answered == (2 if typed == "yes" else 1), said
    assert told in said
    assert "`quarterdeck install CLIENT`" in said[said.index(told) :]
    assert ("Done: rollback_deployment by the grant of terminal of" in said) is (typed == "yes")


def test_a_demo_that_does_not_come_to_its_point_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "PATIENCE_S", 0.0)
    assert demo.run(argparse.Namespace(yes=True)) == 1
    said = capsys.readouterr()
    assert "2. What is offline?" not in said.out
    assert "was not offline within 0 s" in said.err
    assert "`quarterdeck world`" in said.err
