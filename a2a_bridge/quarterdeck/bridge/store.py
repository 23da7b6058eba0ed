"""Where the bridge's memory lives: an SQLite file, or a PostgreSQL database that bridges on several machines share.

Both run the same SQL, one writer at a time: nothing is written between what a transaction reads and what it writes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from quarterdeck.keel import sqlitefile
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact

T = TypeVar("T")

BRIEFLY_S, PATIENTLY_S = 0.01, 10.0
"""How long a writer waits for another process: in the loop, and on the thread."""
CONNECTIONS = 4
LOCK = 20261104

SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, caller TEXT NOT NULL, agent TEXT NOT NULL, title TEXT NOT NULL, place TEXT NOT NULL,
    message TEXT NOT NULL, key TEXT NOT NULL, batch TEXT NOT NULL, remote TEXT NOT NULL, context TEXT NOT NULL,
    state TEXT NOT NULL, said TEXT NOT NULL, question TEXT NOT NULL, approval TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL, heard DOUBLE PRECISION NOT NULL);
CREATE INDEX IF NOT EXISTS tasks_by_caller ON tasks (caller, created);
CREATE INDEX IF NOT EXISTS tasks_by_remote ON tasks (agent, remote) WHERE remote <> '';
CREATE INDEX IF NOT EXISTS tasks_by_approval ON tasks (caller, approval) WHERE approval <> '';
CREATE UNIQUE INDEX IF NOT EXISTS tasks_by_key ON tasks (caller, key) WHERE key <> '';
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, task TEXT NOT NULL, question TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL, UNIQUE (task, question));
CREATE TABLE IF NOT EXISTS artifacts (
    task TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (task, number));
CREATE TABLE IF NOT EXISTS cards (
    agent TEXT PRIMARY KEY, digest TEXT NOT NULL, changed DOUBLE PRECISION NOT NULL, what TEXT NOT NULL,
    parts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS catalogues (
    registry TEXT PRIMARY KEY, heard DOUBLE PRECISION NOT NULL, body TEXT NOT NULL);
"""


class Rows(Protocol):
    """What both kinds of cursor have."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Db(Protocol):
    def execute(self, sql: str, values: tuple[Any, ...] = ..., /) -> Rows: ...


Work = Callable[[Db], T]


class Taken(Exception):
    """A row with this key is there already."""


class Store(Protocol):
    async def read(self, work: Work[T]) -> T:
        """Run questions that write nothing."""

    async def write(self, work: Work[T], *, heavy: bool = False) -> T:
        """Run one transaction; raises Taken where a row with its key is there, and then nothing was written."""

    def close(self) -> None: ...


def store_of(home: Path, database: str) -> Store:
    return Database(database) if database else File(home)


class File:
    """A short piece of work is done at once, which costs less than handing it over; where another process is writing,
    or much is written, a thread does it, so that nobody waits for the disk of another."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._thread: ThreadPoolExecutor | None = None
        self._here: sqlite3.Connection | None = None
        self._there: sqlite3.Connection | None = None

    async def read(self, work: Work[T]) -> T:
        try:
            return work(self._opened())
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise self._unusable(error) from None
        except (OSError, sqlite3.DatabaseError) as error:
            raise self._unusable(error) from None
        return await self.write(work, heavy=True)

    async def write(self, work: Work[T], *, heavy: bool = False) -> T:
        try:
            if not heavy:
                try:
                    return _in_transaction(self._opened(), work)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                        raise
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "bridge-memory")
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._patiently, work)
        except sqlite3.IntegrityError as error:
            raise Taken from error
        except (OSError, sqlite3.DatabaseError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> Refusal:
        return Refusal(
            f"The bridge's memory in {self._home} cannot be used ({error}); without it nothing is sent. Free space "
            "or mend its permissions, then try again."
        )

    def _patiently(self, work: Work[T]) -> T:
        if self._there is None:
            self._there = self._open(PATIENTLY_S)
        return _in_transaction(self._there, work)

    def _opened(self) -> sqlite3.Connection:
        if self._here is None:
            self._here = self._open(BRIEFLY_S)
        return self._here

    def _open(self, patience: float) -> sqlite3.Connection:
        db = sqlitefile.connect(self._home / "bridge.db", PATIENTLY_S, check_same_thread=False)
        db.execute("PRAGMA synchronous = NORMAL")  # survives every kill; a power cut may cost the last moment
        db.executescript(SCHEMA)
        db.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        return db

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
        for db in (self._here, self._there):
            if db is not None:
                db.close()
        self._thread = self._here = self._there = None


def _in_transaction(db: sqlite3.Connection, work: Work[T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


class Database:
    """PostgreSQL, from a few threads with a connection each. Writers of all bridges queue at one lock."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._threads = ThreadPoolExecutor(CONNECTIONS, "bridge-memory")
        self._own = threading.local()
        self._opened: list[Any] = []

    async def read(self, work: Work[T]) -> T:
        return await self._run(work, "")

    async def write(self, work: Work[T], *, heavy: bool = False) -> T:
        return await self._run(work, f"SELECT pg_advisory_xact_lock({LOCK})")

    async def _run(self, work: Work[T], lock: str) -> T:
        import psycopg

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, work, lock)
        except psycopg.errors.UniqueViolation as error:
            raise Taken from error
        except psycopg.Error as error:
            why = redact(str(error).strip().partition("\n")[0])[:200]
            raise Refusal(
                f"The bridge's memory in its database cannot be used ({why}); without it nothing is sent. See whether "
                "the database runs and bridge.database is right, then try again."
            ) from None

    def _do(self, work: Work[T], lock: str) -> T:
        import psycopg

        for attempt in (1, 2):
            db = self._connection()
            begun = False
            try:
                with db.transaction():
                    if lock:
                        db.execute(lock)
                    begun = True
                    return work(_Marked(db))
            except psycopg.OperationalError:
                self._own.db = None  # it may be the connection: it is opened anew
                db.close()
                if begun or attempt == 2:
                    raise
        raise AssertionError

    def _connection(self) -> Any:
        import psycopg

        db = getattr(self._own, "db", None)
        if db is None or db.closed:
            limits = "-c search_path=quarterdeck_bridge -c lock_timeout=10s -c statement_timeout=30s"
            limits += " -c idle_in_transaction_session_timeout=30s"
            db = psycopg.connect(self._address, autocommit=True, connect_timeout=10, options=limits)
            self._opened.append(db)
            with db.transaction():
                db.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
                db.execute("CREATE SCHEMA IF NOT EXISTS quarterdeck_bridge")
                db.execute(SCHEMA)
            self._own.db = db
        return db

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        for db in self._opened:
            db.close()
        self._opened.clear()


class _Marked:
    """A connection that takes SQLite's marks, and text that PostgreSQL would refuse."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def execute(self, sql: str, values: tuple[Any, ...] = (), /) -> Any:
        fit = [value.replace("\x00", "\ufffd") if isinstance(value, str) else value for value in values]
        return self._db.execute(sql.replace("?", "%s"), fit)
