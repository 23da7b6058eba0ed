"""`quarterdeck reports`, as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.report import Report
from quarterdeck.agents.remediation.reports import Reports

QUARTERDECK = str(Path(sys.executable).parent / "quarterdeck")
NOW = datetime.now(UTC)


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path / "home")


def ask(reports: Reports, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("QUARTERDECK_")}
    environ = {**kept, "QUARTERDECK_HOME": str(reports.home), "XDG_CONFIG_HOME": str(reports.home / "config")}
    return subprocess.run(
        [QUARTERDECK, "reports", *arguments], env=environ, capture_output=True, text=True, timeout=40, check=False
    )


def said(reports: Reports, *arguments: str) -> str:
    ran = ask(reports, *arguments)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def save(reports: Reports, id: str, ago: float = 0, **more: str) -> None:
    piece = Evidence(id="e1", tool="logs.tail_errors", taken=NOW, text="database is locked\n\x1b[2J# forged")
    fields = {"title": f"{id} is down", "service": "blog-service", "kind": "database_locked", **more}
    reports.save(
        Report(id=id, created=NOW - timedelta(minutes=ago), outcome="recovered", evidence=[piece], **fields)  # type: ignore[arg-type]
    )


def test_help_says_what_it_is_for() -> None:
    ran = subprocess.run([QUARTERDECK, "--help"], capture_output=True, text=True, timeout=40, check=True)
    assert "past incidents" in ran.stdout


def test_an_empty_store_is_said_and_left_alone(reports: Reports) -> None:
    assert said(reports) == "There is no report yet.\n"
    assert said(reports, "list", "--json") == ""
    assert said(reports, "search", "blog") == "No report holds all of these words.\n"
    assert not reports.home.exists()


def test_incidents_are_listed_newest_first_and_in_pages(reports: Reports) -> None:
    for number in range(60):
        save(reports, f"rp-{number:02}", ago=number)
    lines = said(reports).splitlines()
    assert len(lines) == 22
    assert lines[0].startswith("rp-00 ")
    assert "recovered" in lines[0]
    assert "blog-service  database_locked: rp-00 is down" in lines[0]
    assert lines[-1] == "40 older ones: --skip 20 shows the next."
    assert said(reports, "--skip", "20", "--last", "1").splitlines()[0].startswith("rp-20 ")
    assert "older" not in said(reports, "--skip", "40")
    assert said(reports, "--service", "auth") == "No report fits.\n"
    rows = [json.loads(row) for row in said(reports, "--json", "--last", "100").splitlines()]
    assert [row["id"] for row in rows] == [f"rp-{number:02}" for number in range(60)]


def test_one_is_shown_as_markdown_or_json_without_what_would_drive_a_terminal(reports: Reports) -> None:
    save(reports, "rp-1", title="blog \x1b]0;owned\x07 down")
    shown = said(reports, "show", "rp-1")
    assert shown.startswith("# blog down\n")
    assert "database is locked" not in shown
    assert "1 piece of evidence; `quarterdeck reports show rp-1 --evidence` shows the texts." in shown
    assert "\x1b" not in shown
    whole = said(reports, "show", "rp-1", "--evidence")
    assert "database is locked" in whole
    assert "\x1b" not in whole
    assert "database is locked" in said(reports, "show", "rp-1", "--json")
    assert json.loads(said(reports, "show", "rp-1", "--json"))["id"] == "rp-1"
    assert "\x1b" not in said(reports)


def test_a_long_title_is_cut_at_its_end_only_and_the_time_names_its_zone(reports: Reports) -> None:
    save(reports, "rp-1", title=" ".join(f"word{number}" for number in range(60)))
    (listed,) = said(reports).splitlines()
    assert "word13 word14" in listed
    assert listed.endswith("…")
    assert f" {NOW.astimezone():%Z}  recovered" in listed


def test_words_are_searched_for(reports: Reports) -> None:
    save(reports, "rp-1")
    save(reports, "rp-2", title="auth is out of memory")
    assert said(reports, "search", "locked", "memory").startswith("rp-2 ")
    assert json.loads(said(reports, "search", "memory", "--json"))["id"] == "rp-2"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("show", "rp-none"), "There is no report 'rp-none'"),
        (("show",), "Name one report"),
        (("search",), "Say a word"),
        (("list", "blog"), "quarterdeck reports search blog"),
    ],
)
def test_a_slip_is_answered_with_what_to_type(reports: Reports, arguments: tuple[str, ...], wanted: str) -> None:
    save(reports, "rp-1")
    ran = ask(reports, *arguments)
    assert ran.returncode == 2
    assert wanted in ran.stderr
    assert "Traceback" not in ran.stderr
