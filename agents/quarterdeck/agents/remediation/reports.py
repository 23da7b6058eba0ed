"""Reports that are kept: saved, listed, searched, compared with one another.

One SQLite file, `reports.db` in Quarterdeck's home, which several processes may use at once. It keeps the MOST
reports that were saved last, whatever the clock says; the oldest goes when a new one is saved. Export with
`quarterdeck reports show ID --json` what is to be kept for longer.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quarterdeck.agents.remediation.judgement import same_name
from quarterdeck.agents.remediation.report import Once, Report, Similar
from quarterdeck.keel import sqlitefile
from quarterdeck.keel.answers import one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings

MOST = 5_000
BUSY_S = 10.0
"""How long a writer waits for the others."""
SAME_S = 3600.0
"""Reports nearer to one another than this are about one incident, unless it was mended between them."""
PAGE = 200
"""Reports that one call lists at most."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS reports (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created REAL NOT NULL, service TEXT NOT NULL,
    kind TEXT NOT NULL, outcome TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS reports_by_time ON reports (created);
CREATE INDEX IF NOT EXISTS reports_by_kind ON reports (service, kind, created);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (text);  -- its rowid is the report's number
"""


@dataclass(frozen=True)
class Row:
    """A report in a list."""

    id: str
    created: float
    service: str
    kind: str
    outcome: str
    title: str


_PUT = """
INSERT INTO reports (id, created, service, kind, outcome, title, body) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET created = excluded.created, service = excluded.service, kind = excluded.kind,
    outcome = excluded.outcome, title = excluded.title, body = excluded.body
RETURNING number
"""
_ROW = "r.id, r.created, r.service, r.kind, r.outcome, r.title"


@dataclass
class Reports:
    home: Path
    _ready: bool = field(default=False, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Reports:
        return cls(settings.home)

    @property
    def path(self) -> Path:
        return self.home / "reports.db"

    def save(self, report: Report) -> Report:
        """Keep it, cleaned; a report of the same id is replaced, so that saving twice is saving once."""
        report = report.cleaned()
        row = (
            report.id,
            report.created.timestamp(),
            same_name(report.service),
            report.kind,
            report.outcome,
            one_line(report.title),
            report.model_dump_json(),
        )
        with self._open("be written") as db:
            db.execute("BEGIN IMMEDIATE")
            (number,) = db.execute(_PUT, row).fetchone()
            db.execute("DELETE FROM words WHERE rowid = ?", (number,))
            db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, report.markdown_text()))
            self._forget(db)
            db.execute("COMMIT")
        return report

    def get(self, id: str) -> Report:
        with self._reading() as db:
            row = db.execute("SELECT body FROM reports WHERE id = ?", (id,)).fetchone() if db else None
        if row is None:
            raise Refusal(f"There is no report {one_line(id)[:60]!r}. `quarterdeck reports` lists those there are.")
        try:
            return Report.model_validate_json(row[0])
        except ValueError:
            raise Refusal(f"Report {id} was written by another version and cannot be read.") from None

    def list(self, limit: int = 50, offset: int = 0, service: str = "", kind: str = "") -> Sequence[Row]:
        """Newest first."""
        where, values = _where(service, kind)
        return self._rows(f"SELECT {_ROW} FROM reports r WHERE {where}", values, limit, offset)

    def count(self, service: str = "", kind: str = "") -> int:
        where, values = _where(service, kind)
        with self._reading() as db:
            return int(db.execute(f"SELECT count(*) FROM reports r WHERE {where}", values).fetchone()[0]) if db else 0

    def search(self, text: str, limit: int = 50, offset: int = 0, service: str = "", kind: str = "") -> Sequence[Row]:
        """Reports that hold every one of the words (or words that begin so), newest first."""
        words = re.findall(r"[\w.-]*\w[\w.-]*", text)[:12]
        if not words:
            raise Refusal("Say a word to search for, e.g. `quarterdeck reports search OOMKilled`.")
        # Quoted, so that nothing in it is an operator; the star finds what begins so.
        query = " ".join(f'"{word[:100]}"*' for word in words)
        where, values = _where(service, kind)
        select = f"SELECT {_ROW} FROM words w JOIN reports r ON r.number = w.rowid WHERE words MATCH ? AND {where}"
        return self._rows(select, [query, *values], limit, offset)

    def similar(self, report: Report, days: int = 30) -> Similar:
        """Earlier incidents of the same kind at the same service."""
        until = report.created.timestamp()
        where = "service = ? AND kind = ? AND id != ? AND created BETWEEN ? AND ? AND kind != 'healthy'"
        values = (same_name(report.service), report.kind, report.id, until - days * 86400, until)
        with self._reading() as db:
            if db is None:
                return Similar(days=days)
            rows = db.execute(
                f"SELECT id, created, outcome FROM reports WHERE {where} ORDER BY created DESC", values
            ).fetchall()
        found: list[Once] = []
        later = until
        for id, created, outcome in rows:
            # One that is looked at again before it was mended has not happened once more.
            if outcome == "recovered" or later - created > SAME_S:
                found.append(Once(id=id, created=created, outcome=outcome))
            later = created
        return Similar(count=len(found), days=days, reports=found[:10])

    # The file

    def _rows(self, select: str, values: Sequence[Any], limit: int, offset: int) -> Sequence[Row]:
        page = [max(1, min(limit, PAGE)), max(0, min(offset, 2**31))]
        with self._reading() as db:
            if db is None:
                return []
            rows = db.execute(f"{select} ORDER BY r.created DESC, r.id LIMIT ? OFFSET ?", [*values, *page]).fetchall()
        return [Row(*row) for row in rows]

    def _forget(self, db: sqlite3.Connection) -> None:
        old = db.execute("SELECT number FROM reports ORDER BY number DESC LIMIT 500 OFFSET ?", (MOST,)).fetchall()
        db.executemany("DELETE FROM words WHERE rowid = ?", old)
        db.executemany("DELETE FROM reports WHERE number = ?", old)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """None while nothing was ever saved: looking makes no file."""
        if not self.path.exists():
            yield None
            return
        with self._open("be read") as db:
            yield db

    @contextmanager
    def _open(self, what: str) -> Iterator[sqlite3.Connection]:
        try:
            db = sqlitefile.connect(self.path, BUSY_S)
            try:
                if not self._ready:
                    self.path.chmod(0o600)
                    db.executescript(SCHEMA)
                    self._ready = True
                yield db
            finally:
                db.close()  # what is not committed is rolled back
        except (OSError, sqlite3.Error) as error:
            raise Refusal(
                f"The reports in {self.path} cannot {what} ({error}). Free space or mend its permissions, then try "
                "again; a file that is broken for good may be moved away."
            ) from error


def _where(service: str, kind: str) -> tuple[str, list[Any]]:
    parts, values = ["1"], []
    for column, value in (("service", same_name(service)), ("kind", kind)):
        if value:
            parts.append(f"r.{column} = ?")
            values.append(value)
    return " AND ".join(parts), values
