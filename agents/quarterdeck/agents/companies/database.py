"""Where jobs and results are kept: a SQLite file in home, or the flows' PostgreSQL. The same SQL for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from quarterdeck.keel import sqlitefile
from quarterdeck.keel.errors import Away, Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import Settings

BUSY_S = 20.0
"""How long a writer waits for another process."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS company_jobs (id TEXT PRIMARY KEY, caller TEXT NOT NULL, label TEXT NOT NULL,"
    " spec TEXT NOT NULL, digest TEXT NOT NULL, priority INTEGER NOT NULL, budget DOUBLE PRECISION,"
    " state TEXT NOT NULL, why TEXT NOT NULL, round INTEGER NOT NULL, parent TEXT NOT NULL,"
    " total BIGINT NOT NULL, blank BIGINT NOT NULL, duplicates BIGINT NOT NULL, clipped BIGINT NOT NULL,"
    " complete BIGINT NOT NULL, incomplete BIGINT NOT NULL, failed BIGINT NOT NULL, iterations BIGINT NOT NULL,"
    " cost DOUBLE PRECISION NOT NULL, priced BIGINT NOT NULL, tokens BIGINT NOT NULL,"
    " created DOUBLE PRECISION NOT NULL, started DOUBLE PRECISION NOT NULL, updated DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS company_jobs_newest ON company_jobs (created)",
    "CREATE TABLE IF NOT EXISTS company_results (job TEXT NOT NULL, n BIGINT NOT NULL, name TEXT NOT NULL,"
    " key TEXT NOT NULL, tries INTEGER NOT NULL, state TEXT NOT NULL, data TEXT, confidence DOUBLE PRECISION,"
    " completeness DOUBLE PRECISION, iterations INTEGER, sources TEXT, fields TEXT, problem TEXT,"
    " cost DOUBLE PRECISION, tokens BIGINT, duration_s DOUBLE PRECISION, finished DOUBLE PRECISION,"
    " PRIMARY KEY (job, n))",
    "CREATE UNIQUE INDEX IF NOT EXISTS company_results_once ON company_results (job, key)",
    "CREATE INDEX IF NOT EXISTS company_results_open ON company_results (job, n) WHERE state = 'waiting'",
    "CREATE INDEX IF NOT EXISTS company_results_done ON company_results (job, n) WHERE state <> 'waiting'",
    "CREATE INDEX IF NOT EXISTS company_results_newest ON company_results (job, finished) WHERE state <> 'waiting'",
    "CREATE INDEX IF NOT EXISTS company_results_of ON company_results (key, finished) WHERE state <> 'waiting'",
    "CREATE TABLE IF NOT EXISTS company_notes (job TEXT NOT NULL, n BIGINT NOT NULL, body {bytes} NOT NULL,"
    " PRIMARY KEY (job, n))",
    # Cheap mode: questions that go to the model in batches, and the batches that were sent.
    "CREATE TABLE IF NOT EXISTS company_questions (job TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,"
    " made DOUBLE PRECISION NOT NULL, size BIGINT NOT NULL, request {bytes}, mark TEXT NOT NULL, place BIGINT NOT NULL,"
    " sent INTEGER NOT NULL, answer TEXT NOT NULL, problem TEXT NOT NULL, PRIMARY KEY (job, key))",
    "CREATE INDEX IF NOT EXISTS company_questions_open ON company_questions (job, state, made)"
    " WHERE state IN ('new', 'asked')",
    "CREATE INDEX IF NOT EXISTS company_questions_batch ON company_questions (job, mark, place)",
    "CREATE TABLE IF NOT EXISTS company_batches (mark TEXT PRIMARY KEY, job TEXT NOT NULL, id TEXT NOT NULL,"
    " count BIGINT NOT NULL, made DOUBLE PRECISION NOT NULL, state TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS company_batches_open ON company_batches (job)"
    " WHERE state IN ('sending', 'sent', 'off')",
    # Who feeds a job says so every few seconds.
    "CREATE TABLE IF NOT EXISTS company_beats (job TEXT PRIMARY KEY, at DOUBLE PRECISION NOT NULL)",
)


class Database:
    def __init__(self, settings: Settings) -> None:
        url = settings.flows.database.get_secret_value()
        self.path = settings.home / "companies.db" if not url or url.startswith("sqlite") else None
        self.place = str(self.path) if self.path else "the database of [flows]"
        self.engine = self._file(self.path) if self.path else self._server(url)

    def _file(self, path: Path) -> sa.Engine:
        def connect() -> Any:
            db = sqlitefile.connect(path, BUSY_S, check_same_thread=False)
            db.isolation_level = "IMMEDIATE"  # a transaction takes the writers' lock when it begins
            db.execute("PRAGMA synchronous = NORMAL")
            return db

        return sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool, pool_size=4, max_overflow=0)

    def _server(self, url: str) -> sa.Engine:
        try:
            address = sa.make_url(url).set(drivername="postgresql+psycopg")
        except sa.exc.ArgumentError:
            raise Refusal("The setting flows.database is not a database address.") from None
        options = "-c search_path=quarterdeck -c idle_in_transaction_session_timeout=60000"
        return sa.create_engine(
            address, pool_size=4, max_overflow=2, pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": options},
        )  # fmt: skip

    def create(self) -> None:
        with self.engine.begin() as db:
            if self.path is None:
                db.execute(sa.text("SELECT pg_advisory_xact_lock(20261122)"))
                db.execute(sa.text("CREATE SCHEMA IF NOT EXISTS quarterdeck"))
            else:
                db.exec_driver_sql("BEGIN IMMEDIATE")
            for table in TABLES:
                db.exec_driver_sql(table.format(bytes="BLOB" if self.path else "BYTEA"))

    def close(self) -> None:
        self.engine.dispose()

    def unusable(self, error: BaseException) -> Away:
        """What a caller is told. It may be well again in a moment, so it begins as such errors do here."""
        reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        return Away(
            f"Try again: results cannot be stored in {self.place} ({redact(reason)[:200]}). "
            "Free space or mend its server; what was stored before is kept."
        )
