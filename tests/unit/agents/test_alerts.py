"""Alerts: none is worked on twice, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.agents.remediation.alerts import Alerts, parse
from quarterdeck.agents.remediation.card import asked
from quarterdeck.agents.remediation.flow import _undo
from quarterdeck.agents.remediation.health import State, worse
from quarterdeck.agents.remediation.models import Action
from quarterdeck.keel.errors import Refusal


def notice(*fingerprints: str, group: str = "g", status: str = "firing") -> Any:
    alerts = [
        {"status": "firing", "labels": {"service": one}, "startsAt": "t", "fingerprint": one} for one in fingerprints
    ]
    return parse(json.dumps({"groupKey": group, "status": status, "alerts": alerts}).encode())


def test_an_alert_that_joined_a_running_task_gets_one_of_its_own_once_that_ended(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path)
    first = alerts.take(notice("f1"), "kim-", set())
    joined = alerts.take(notice("f1", "f2"), "kim-", set())
    assert (joined.task, joined.fresh) == (first.task, 1)
    later = alerts.take(notice("f1", "f2"), "kim-", {first.task})
    assert later.task != first.task
    assert later.argument["alert"]["labels"]["service"] == "f2"
    assert alerts.take(notice("f1", "f2"), "kim-", {first.task, later.task}).task == later.task


def test_what_one_caller_sent_hides_nothing_of_anothers(tmp_path: Path) -> None:
    alerts = Alerts(tmp_path)
    readers = alerts.take(notice("f1"), "reader-", set())
    kims = alerts.take(notice("f1"), "kim-", set())
    assert (readers.fresh, kims.fresh) == (1, 1)
    assert readers.task.startswith("reader-")
    assert kims.task.startswith("kim-")


def test_its_files_are_for_its_owner_only(tmp_path: Path) -> None:
    Alerts(tmp_path).take(notice("f1"), "kim-", set())
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


@pytest.mark.parametrize(
    "text",
    [
        "Why is blog-service offline? Only look.",
        "diagnose only",
        "do not change anything",
        "just tell me",
        "분석만 해줘",
        "nur ansehen",
    ],
)
def test_who_asks_only_to_look_gets_no_change(text: str) -> None:
    assert asked(text, {})["act"] is False
    assert asked(text, {"act": True})["act"] is True


@pytest.mark.parametrize("text", ["the blog is down, mend it", "", "look at the blog and restart it"])
def test_who_asks_for_more_may_be_asked_for_a_change(text: str) -> None:
    assert asked(text, {})["act"] is True


def test_secrets_in_what_was_asked_are_not_kept() -> None:
    found = asked("token=ghp_0123456789abcdefghij", {"alert": {"labels": {"url": "https://x:hunter2secret@db"}}})
    assert "ghp_" not in str(found)
    assert "hunter2secret" not in str(found)
    with pytest.raises(Refusal):
        asked("", {"act": "no"})


def test_what_happens_to_others_meanwhile_is_not_laid_at_the_changes_door() -> None:
    before, after = State(ready=2), State(ready=2, offline=["blog_service"])
    assert worse(before, after, "user-service") == ""
    assert worse(before, after, "user-service", ["blog-service"]) == "blog_service went offline"
    assert "ready" in worse(before, State(ready=1, desired=2), "user-service")


@pytest.mark.parametrize(
    ("tool", "arguments", "undo"),
    [
        ("restart_deployment", {"deployment": "a"}, None),
        ("rollback_deployment", {"deployment": "a", "revision": 3}, {"deployment": "a", "revision": 5}),
        ("scale_deployment", {"deployment": "a", "replicas": 4}, {"deployment": "a", "replicas": 2}),
    ],
)
def test_only_what_can_be_taken_back_exactly_is_taken_back(tool: Any, arguments: Any, undo: Any) -> None:
    found = _undo(Action(tool=tool, arguments=arguments, why=""), State(desired=2, revision=5))
    assert (found.arguments if found else None) == undo
    assert _undo(Action(tool="rollback_deployment", arguments=arguments, why=""), State(desired=2)) is None
