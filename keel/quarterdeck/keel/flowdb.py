"""The database of the flows: DBOS's tables, and beside them what was asked, what happened, and who is alive.

On SQLite everything is in one file in WAL mode; on PostgreSQL DBOS's tables are in the schema `dbos`, ours in
`quarterdeck`. Every time that is stored or compared comes from the database's clock.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from quarterdeck.keel.errors import Away, Refusal
from quarterdeck.keel.redact import redact

APP = "quarterdeck"
BUSY_S = 5.0
"""How long a writer waits for another process."""
AWAY_S = 1.0
"""How long DBOS waits at most before it looks again whether the database is back."""
MOST_ROWS = 500
"""Rows that one question to the database may bring back."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS {q}executors (id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL,"
    " born TEXT NOT NULL, beats BIGINT NOT NULL, at BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS {q}questions (id TEXT PRIMARY KEY, flow TEXT NOT NULL, text TEXT NOT NULL,"
    " data TEXT NOT NULL, asked BIGINT NOT NULL, until BIGINT NOT NULL, state TEXT NOT NULL, answer TEXT)",
    "CREATE INDEX IF NOT EXISTS {i}questions_open ON {q}questions (flow) WHERE state = 'open'",
    "CREATE TABLE IF NOT EXISTS {q}items (flow TEXT NOT NULL, number BIGINT NOT NULL, place TEXT NOT NULL,"
    " kind TEXT NOT NULL, text TEXT NOT NULL, share FLOAT, data TEXT NOT NULL, question TEXT NOT NULL,"
    " at BIGINT NOT NULL, PRIMARY KEY (flow, number), UNIQUE (flow, place))",
)

T = TypeVar("T")


class Database:
    def __init__(self, url: str, home: Path) -> None:
        self.place = "the flows' database" if url else str(home / "flows.db")
        self.sqlite = not url or url.startswith("sqlite")
        self.home = home if self.sqlite else None
        self.url = url or f"sqlite:///{home / 'flows.db'}"
        if not self.sqlite:
            try:
                self.url = sa.make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
            except sa.exc.ArgumentError:
                raise Refusal("The setting flows.database is not a database address.") from None
        self.engine = self._engine()
        self._names = (
            {"q": "quarterdeck_", "i": "quarterdeck_", "d": ""}
            if self.sqlite
            else {"q": "quarterdeck.", "i": "", "d": "dbos."}
        )
        # Times are the database's own, in milliseconds.
        self._names["now"] = (
            "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
            if self.sqlite
            else "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
        )

    def _engine(self) -> sa.Engine:
        if not self.sqlite:
            return sa.create_engine(
                self.url,
                pool_size=6,
                max_overflow=2,
                pool_pre_ping=True,
                connect_args={"connect_timeout": 10, "options": "-c idle_in_transaction_session_timeout=60000"},
            )
        # Few connections: writers queue here, in order, instead of polling for SQLite's lock.
        made = sa.create_engine(
            self.url,
            poolclass=sa.QueuePool,
            pool_size=3,
            max_overflow=0,
            connect_args={"check_same_thread": False, "timeout": BUSY_S},
        )

        @event.listens_for(made, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = "IMMEDIATE"  # a transaction takes the writers' lock when it begins
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")

        return made

    def create(self) -> None:
        if self.sqlite and self.home is not None:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.writing() as db:
            if self.sqlite:
                db.execute(sa.text("BEGIN IMMEDIATE"))
            else:
                db.execute(sa.text("SELECT pg_advisory_xact_lock(20261121)"))
                db.execute(sa.text("CREATE SCHEMA IF NOT EXISTS quarterdeck"))
            for table in TABLES:
                self.do(db, table)
        if self.sqlite and (name := self.engine.url.database):
            Path(name).chmod(0o600)

    def used(self) -> bool:
        """Whether flows were ever run on it."""
        if self.sqlite and not Path(self.engine.url.database or "").exists():
            return False
        return sa.inspect(self.engine).has_table("workflow_status", schema=None if self.sqlite else "dbos")

    def close(self) -> None:
        self.engine.dispose()

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """One transaction."""
        return self.engine.begin()

    def reading(self) -> AbstractContextManager[sa.Connection]:
        return self.engine.connect()

    def do(self, db: sa.Connection, statement: str, **values: Any) -> sa.CursorResult[Any]:
        return db.execute(sa.text(statement.format(**self._names)), values)

    def now(self) -> sa.ColumnElement[int]:
        return sa.literal_column(self._names["now"], sa.BigInteger)

    def some(self, db: sa.Connection, statement: str, ids: Iterable[str], **values: Any) -> list[Any]:
        text = sa.text(statement.format(**self._names)).bindparams(sa.bindparam("ids", expanding=True))
        found: list[Any] = []
        every = list(ids)
        for start in range(0, len(every), MOST_ROWS):
            found += db.execute(text, {"ids": every[start : start + MOST_ROWS], **values}).all()
        return found

    def unusable(self, error: BaseException) -> Away:
        """What a caller is told when the database does not do its part."""
        reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        advice = "Free space, mend its permissions or its server, then try again with the same id."
        if isinstance(error, TimeoutError):
            reason = "it did not answer in time"
        return Away(f"Flows cannot be stored in {self.place} ({redact(reason)[:200]}). {advice}")


class Clock:
    """`time` for DBOS: its own pauses grow to ninety seconds while the database is away, and our heartbeats queue up
    behind them; so a process would count as dead, or stand still, long after the database is back."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, AWAY_S))


class Threads(ThreadPoolExecutor):
    """DBOS makes its executor the loop's default one; so this keeps its work apart from everybody else's."""

    def __init__(self, width: int) -> None:
        super().__init__(max_workers=width, thread_name_prefix="flows-db")
        self.others = ThreadPoolExecutor(thread_name_prefix="flows-other")

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        inner: Any = fn
        while isinstance(inner, functools.partial):
            inner = inner.args[0] if inner.args and getattr(inner.func, "__name__", "") == "run" else inner.func
        theirs = (getattr(inner, "__module__", None) or "").startswith("dbos")
        return super().submit(fn, *args, **kwargs) if theirs else self.others.submit(fn, *args, **kwargs)

    def in_db(self, fn: Callable[..., T], /, *args: Any) -> Future[T]:
        return super().submit(fn, *args)
