"""The store of reports: found again, bounded, safe with several processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.agents.remediation import reports as store
from quarterdeck.agents.remediation.models import Evidence
from quarterdeck.agents.remediation.report import Report
from quarterdeck.agents.remediation.reports import Reports, Row
from quarterdeck.keel.errors import Refusal

NOW = datetime.now(UTC)


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path / "home")


def report(id: str = "rp-1", ago: float = 0, **more: Any) -> Report:
    fields: dict[str, Any] = {
        "title": "blog is down", "service": "blog-service", "kind": "database_locked", "outcome": "recovered",
        "created": NOW - timedelta(days=ago),
    }  # fmt: skip
    return Report(id=id, **{**fields, **more})


def ids(rows: Any) -> list[str]:
    assert all(isinstance(row, Row) for row in rows)
    return [row.id for row in rows]


def test_looking_into_an_empty_store_makes_no_file(reports: Reports) -> None:
    assert reports.list() == []
    assert reports.search("anything") == []
    assert reports.count() == 0
    assert reports.similar(report()).count == 0
    with pytest.raises(Refusal, match="no report"):
        reports.get("rp-1")
    assert not reports.home.exists()


def test_a_saved_report_comes_back_cleaned(reports: Reports) -> None:
    piece = Evidence(id="e1", tool="logs.tail", taken=NOW, text="password=hunter2hunter2", data={"a": 1})
    saved = reports.save(report(evidence=[piece]))
    assert reports.get("rp-1") == saved
    assert b"hunter2" not in reports.path.read_bytes()
    assert reports.path.stat().st_mode & 0o077 == 0, "for its owner's eyes"


def test_saving_twice_is_saving_once(reports: Reports) -> None:
    reports.save(report(title="first words"))
    reports.save(report(title="second words"))
    assert reports.count() == 1
    assert reports.get("rp-1").title == "second words"
    assert reports.search("first") == []
    assert ids(reports.search("second")) == ["rp-1"]


def test_lists_are_newest_first_in_pages_and_by_service_and_kind(reports: Reports) -> None:
    for number in range(5):
        reports.save(report(f"rp-{number}", ago=number))
    reports.save(report("rp-auth", ago=9, service="auth", kind="oom_killed"))
    assert ids(reports.list()) == ["rp-0", "rp-1", "rp-2", "rp-3", "rp-4", "rp-auth"]
    assert ids(reports.list(limit=2, offset=1)) == ["rp-1", "rp-2"]
    assert ids(reports.list(service="auth")) == ["rp-auth"]
    assert len(reports.list(service="blog_service")) == 5, "spelled either way"
    assert ids(reports.list(kind="oom_killed")) == ["rp-auth"]
    assert reports.count(service="auth") == 1
    assert len(reports.list(limit=-5, offset=-5)) == 1
    assert len(reports.list(limit=10**9)) == 6


def test_search_finds_all_that_was_written(reports: Reports) -> None:
    piece = Evidence(id="e1", tool="logs.tail", taken=NOW, text="sqlite3.OperationalError: 데이터베이스가 잠겼습니다")
    reports.save(report(evidence=[piece], done=[]))
    reports.save(report("rp-2", title="auth ran out of memory", service="auth", kind="oom_killed"))
    for text in (
        "operationalerror",
        "sqlite3.Operational",
        "데이터베이스",
        "e1 잠겼습니다",
        "blog-service",
        "blog_service",
    ):
        assert ids(reports.search(text)) == ["rp-1"], text
    assert ids(reports.search("memory auth")) == ["rp-2"]
    assert reports.search("memory blog") == []
    assert reports.search("memory", service="blog-service") == []


@pytest.mark.parametrize(
    "text",
    ['"', "NOT x", "a OR b", "text:blog", "NEAR(a b)", "*", "x" * 10_000, "a " * 10_000, "'; DROP TABLE reports", "^"],
)
def test_nothing_in_a_search_is_an_operator(reports: Reports, text: str) -> None:
    reports.save(report())
    try:
        assert reports.search(text) == []
    except Refusal as refusal:
        assert "Say a word" in str(refusal)
    assert reports.count() == 1


def test_similar_incidents_are_counted_with_their_ids(reports: Reports) -> None:
    for number, ago in enumerate((1, 5, 29, 31, 300)):
        reports.save(report(f"rp-{number}", ago=ago, service="blog_service"))
    reports.save(report("rp-other", ago=1, kind="oom_killed"))
    reports.save(report("rp-auth", ago=1, service="auth"))
    reports.save(report("rp-later", ago=-1))
    mine = reports.save(report("rp-mine"))
    found = reports.similar(mine)
    assert found.count == 3
    assert [one.id for one in found.reports] == ["rp-0", "rp-1", "rp-2"]
    assert found.words() == "This has happened 3 times before in the last 30 days."
    assert (
        reports.similar(report("rp-new", service="payments")).words()
        == "This has not happened before in the last 30 days."
    )


def test_looking_again_at_an_incident_is_not_having_it_again(reports: Reports) -> None:
    hour = 1 / 24
    reports.save(report("rp-mended", ago=2 * hour, outcome="recovered"))
    reports.save(report("rp-look", ago=1.5 * hour, outcome="reported"))
    reports.save(report("rp-refused", ago=1.2 * hour, outcome="refused"))
    mine = reports.save(report("rp-mine", ago=0.5 * hour, outcome="recovered"))
    assert [one.id for one in reports.similar(mine).reports] == ["rp-mended"]
    assert [one.id for one in reports.similar(report("rp-next")).reports] == ["rp-mine", "rp-mended"]


def test_all_being_well_is_no_incident_to_count(reports: Reports) -> None:
    reports.save(report("rp-0", ago=1, kind="healthy", outcome="healthy"))
    assert reports.similar(report(kind="healthy", outcome="healthy")).count == 0


def test_beyond_the_most_those_saved_first_are_forgotten(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST", 3)
    for number in range(6):
        reports.save(report(f"rp-{number}", ago=6 - number))
    assert ids(reports.list()) == ["rp-5", "rp-4", "rp-3"]
    assert len(reports.search("blog")) == 3, "its words go with it"


def test_a_clock_that_jumps_costs_no_report(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST", 3)
    reports.save(report("rp-now"))
    reports.save(report("rp-future", ago=-10_000))
    reports.save(report("rp-past", ago=10_000))
    assert ids(reports.list()) == ["rp-future", "rp-now", "rp-past"]
    reports.save(report("rp-older-still", ago=20_000))
    assert ids(reports.list()) == ["rp-future", "rp-past", "rp-older-still"], "the one saved first has gone"


SAVE = """
import sys
from pathlib import Path
from quarterdeck.agents.remediation.report import Report
from quarterdeck.agents.remediation.reports import Reports
reports = Reports(Path(sys.argv[1]))
for number in range(25):
    Reports(Path(sys.argv[1])).save(Report(id=f"rp-{sys.argv[2]}-{number}", title="t", outcome="reported"))
    reports.save(Report(id="rp-shared", title="t", outcome="reported"))
    assert len(reports.list(limit=200)) >= 1
"""


def test_several_processes_write_into_a_new_store_at_once(reports: Reports) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", SAVE, str(reports.home), name], stderr=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    said = [writer.communicate(timeout=50)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], said
    assert reports.count() == 3 * 25 + 1
    with sqlite3.connect(reports.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM words").fetchone() == (76,)
    db.close()


def test_a_store_that_is_broken_or_not_ours_is_a_refusal(reports: Reports) -> None:
    reports.home.mkdir()
    reports.path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    for work in (lambda: reports.list(), lambda: reports.save(report()), lambda: reports.get("rp-1")):
        with pytest.raises(Refusal, match=r"reports\.db cannot be"):
            work()


def test_a_full_disk_is_a_refusal_and_loses_nothing(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    reports.save(report("rp-1"))
    connect = sqlite3.connect

    def full(*args: Any, **more: Any) -> sqlite3.Connection:
        db = connect(*args, **more)
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        return db

    text = " ".join(f"word{number}" for number in range(2000))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        with pytest.raises(Refusal, match="full"):
            for number in range(2, 50):
                reports.save(report(f"rp-{number}", what=text, missing=[text] * 9))
    assert "rp-1" in ids(reports.list())
    reports.save(report("rp-after"))
    assert reports.get("rp-after").id == "rp-after"


def test_a_report_of_another_version_is_a_refusal(reports: Reports) -> None:
    reports.save(report())
    with sqlite3.connect(reports.path) as db:
        db.execute("UPDATE reports SET body = '{\"id\": 5}'")
    db.close()
    with pytest.raises(Refusal, match="another version"):
        reports.get("rp-1")
