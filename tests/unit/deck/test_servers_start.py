"""What `quarterdeck doctor` says of a server that does not start."""

from __future__ import annotations

import pytest

from quarterdeck.deck import checks
from quarterdeck.keel.settings import Settings


def only(monkeypatch: pytest.MonkeyPatch, program: str) -> checks.Finding:
    monkeypatch.setattr(checks, "SERVERS", ("stats",))
    monkeypatch.setattr(checks, "started", lambda _: ["-c", program])
    (found,) = checks.servers(Settings())
    assert (found.status, found.what) == (checks.FAIL, "server stats")
    return found


def test_a_server_that_takes_too_long_is_told_from_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "START_S", 1.0)
    told = "import sys, time; print('Starting', file=sys.stderr, flush=True); time.sleep(60)"
    assert only(monkeypatch, told).detail == "did not answer within 1 s; on a busy machine, try again"


def test_a_server_that_ends_is_told_by_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(monkeypatch, "input(); import sys; sys.exit('No such setting.')").detail == "No such setting."
    assert only(monkeypatch, "input()").detail == "ended without a word"
