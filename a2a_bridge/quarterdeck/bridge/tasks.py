"""The bridge's memory: every task it handed out, in one SQLite file that all clients of this machine share.

A message's id is ours and is written down before the message is sent; it is never sent again. So after kill -9 the
task is found here, and what is not known is said to be unknown instead of being tried twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from quarterdeck.keel import sqlitefile
from quarterdeck.keel.answers import one_line
from quarterdeck.keel.errors import Refusal

T = TypeVar("T")
Json = dict[str, Any]

OVER = frozenset({"completed", "failed", "canceled", "rejected", "unknown"})
"""Nothing more comes from the agent. `unknown`: it is not known whether the message arrived."""
RESTING = OVER | {"input_required", "auth_required"}
"""Nothing comes from the agent by itself. States of ours beside the protocol's: `queued` (surely not sent), `sending`
(the message is on its way, or was when the bridge was killed), `unknown`."""
LARGE = 64 * 1024
KEPT_S = 30 * 86400.0
MOST_TASKS = 5_000
"""Per caller; the oldest that are over make room."""
MOST_OPEN = 500
ROOM_EVERY = 25
"""Tasks begun between two looks at what may be forgotten."""
BRIEFLY_S, PATIENTLY_S = 0.01, 10.0
"""How long a writer waits for another process: in the loop, and on the thread."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, caller TEXT NOT NULL, agent TEXT NOT NULL, title TEXT NOT NULL, place TEXT NOT NULL,
    message TEXT NOT NULL, key TEXT NOT NULL, batch TEXT NOT NULL, remote TEXT NOT NULL, context TEXT NOT NULL,
    state TEXT NOT NULL, said TEXT NOT NULL, question TEXT NOT NULL, approval TEXT NOT NULL,
    created REAL NOT NULL, heard REAL NOT NULL);
CREATE INDEX IF NOT EXISTS tasks_by_caller ON tasks (caller, created);
CREATE INDEX IF NOT EXISTS tasks_by_remote ON tasks (agent, remote);
CREATE INDEX IF NOT EXISTS tasks_by_approval ON tasks (caller, approval);
CREATE UNIQUE INDEX IF NOT EXISTS tasks_by_key ON tasks (caller, key) WHERE key <> '';
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, task TEXT NOT NULL, question TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
    at REAL NOT NULL, UNIQUE (task, question));
CREATE TABLE IF NOT EXISTS artifacts (
    task TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (task, number));
CREATE TABLE IF NOT EXISTS cards (
    agent TEXT PRIMARY KEY, digest TEXT NOT NULL, changed REAL NOT NULL, what TEXT NOT NULL, parts TEXT NOT NULL);
"""


@dataclass
class Record:
    """One task as the bridge remembers it."""

    id: str
    caller: str
    agent: str
    title: str
    place: str
    """Which instance of the agent has it, as the settings name it. While it is queued: the process that holds it."""
    message: str
    """The id of the message that began it."""
    key: str = ""
    batch: str = ""
    remote: str = ""
    """The agent's id of it; empty as long as the agent has not told."""
    context: str = ""
    state: str = "sending"
    said: str = ""
    question: str = ""
    """JSON of what the agent asks now (questions.Question); empty when it asks nothing."""
    approval: str = ""
    """The change in our ledger that stands for the question, once a person was asked."""
    created: float = field(default_factory=time.time)
    heard: float = field(default_factory=time.time)

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def resting(self) -> bool:
        return self.state in RESTING


_FIELDS = tuple(Record.__dataclass_fields__)
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM tasks"


def new_id(prefix: str) -> str:
    return f"{prefix}-" + "".join(secrets.choice("23456789abcdefghjkmnpqrstuvwxyz") for _ in range(10))


def here() -> str:
    return f"process {os.getpid()}"


def is_gone(place: str) -> bool:
    """Whether the process that held a queued task is no more."""
    number = place.removeprefix("process ")
    if not number.isdigit() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Memory:
    """The file. A short piece of work is done at once, which costs less than handing it over; where another process
    is writing, or much is written, a thread does it, so that nobody waits for the disk of another."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._begun = 0
        self._thread: ThreadPoolExecutor | None = None
        self._here: sqlite3.Connection | None = None
        self._there: sqlite3.Connection | None = None

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, heavy: bool = False) -> T:
        try:
            if not heavy:
                try:
                    if self._here is None:
                        self._here = self._open(BRIEFLY_S)
                    return _in_transaction(self._here, work)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                        raise
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "bridge-memory")
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._patiently, work)
        except (OSError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise Refusal(
                f"The bridge's memory in {self._home} cannot be used ({error}); without it nothing is sent. Free space "
                "or mend its permissions, then try again."
            ) from None

    def _patiently(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._there is None:
            self._there = self._open(PATIENTLY_S)
        return _in_transaction(self._there, work)

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

    # Tasks

    async def begin(self, record: Record) -> Record:
        """Write down a task before its message is sent. With a key that is known: the task that has it already."""

        def work(db: sqlite3.Connection) -> Record:
            if record.key:
                row = db.execute(f"{_SELECT} WHERE caller = ? AND key = ?", (record.caller, record.key)).fetchone()
                if row is not None:
                    return Record(*row)
            self._make_room(db, record.caller)
            marks = ", ".join("?" * len(_FIELDS))
            db.execute(f"INSERT INTO tasks ({', '.join(_FIELDS)}) VALUES ({marks})", _values(record))
            return record

        return await self._run(work)

    def _make_room(self, db: sqlite3.Connection, caller: str) -> None:
        """Every now and then: counting costs more than writing a task down."""
        self._begun += 1
        if self._begun % ROOM_EVERY != 1:
            return
        over = ", ".join(f"'{state}'" for state in sorted(OVER))
        total, still = db.execute(
            f"SELECT count(*), count(*) FILTER (WHERE state NOT IN ({over})) FROM tasks WHERE caller = ?", (caller,)
        ).fetchone()
        if still >= MOST_OPEN:
            self._begun -= 1  # and with the next one again
            raise Refusal(f"{MOST_OPEN} tasks are open already. Wait for some, or cancel some; list_tasks shows them.")
        gone = db.execute(
            f"DELETE FROM tasks WHERE state IN ({over}) AND (heard < ? OR id IN (SELECT id FROM tasks"
            f" WHERE caller = ? AND state IN ({over}) ORDER BY heard LIMIT ?))",
            (time.time() - KEPT_S, caller, max(0, total - MOST_TASKS)),
        )
        if gone.rowcount:
            for table in ("messages", "artifacts"):
                db.execute(f"DELETE FROM {table} WHERE task NOT IN (SELECT id FROM tasks)")

    async def save(self, record: Record, artifacts: list[Json] | None = None) -> None:
        """What is known now. A task that is over stays over, whoever heard of it last."""
        kept = replace(record)

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE tasks SET remote = ?, context = ?, place = ?, state = ?, said = ?, question = ?, heard = ?"
                " WHERE id = ? AND (state NOT IN ('completed', 'failed', 'canceled', 'rejected') OR state = ?)",
                (
                    kept.remote,
                    kept.context,
                    kept.place,
                    kept.state,
                    kept.said,
                    kept.question,
                    kept.heard,
                    kept.id,
                    kept.state,
                ),
            )
            if artifacts is not None:
                rows = [(kept.id, number, json.dumps(body)) for number, body in enumerate(artifacts)]
                db.executemany("INSERT OR REPLACE INTO artifacts (task, number, body) VALUES (?, ?, ?)", rows)

        await self._run(work, heavy=artifacts is not None and sum(map(_size, artifacts)) > LARGE)

    async def set_approval(self, id: str, approval: str) -> None:
        await self._run(lambda db: db.execute("UPDATE tasks SET approval = ? WHERE id = ?", (approval, id)))

    async def get(self, id: str, caller: str) -> Record:
        row = await self._run(lambda db: db.execute(f"{_SELECT} WHERE id = ? AND caller = ?", (id, caller)).fetchone())
        if row is None:
            raise Refusal(f"There is no task {one_line(id)[:40]!r} of yours. list_tasks shows those there are.")
        return Record(*row)

    async def by_approval(self, approval: str, caller: str) -> Record | None:
        query = f"{_SELECT} WHERE approval = ? AND caller = ?"
        row = await self._run(lambda db: db.execute(query, (approval, caller)).fetchone())
        return Record(*row) if row else None

    async def find(
        self, caller: str, *, state: str = "", agent: str = "", batch: str = "", most: int = 100, skip: int = 0
    ) -> tuple[list[Record], int]:
        where, values = ["caller = ?"], [caller]
        for column, value in (("agent", agent), ("batch", batch)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        over = ", ".join(f"'{one}'" for one in sorted(OVER))
        if state == "open":
            where.append(f"state NOT IN ({over})")
        elif state:
            where.append("state = ?")
            values.append(state)
        condition = " AND ".join(where)

        def work(db: sqlite3.Connection) -> tuple[list[Record], int]:
            count = db.execute(f"SELECT count(*) FROM tasks WHERE {condition}", values).fetchone()[0]
            rows = db.execute(
                f"{_SELECT} WHERE {condition} ORDER BY created DESC LIMIT ? OFFSET ?", [*values, most, skip]
            ).fetchall()
            return [Record(*row) for row in rows], int(count)

        return await self._run(work)

    async def claim(self, record: Record, remote: str) -> bool:
        """Note the agent's id of a task, unless that id belongs to a task of another caller."""
        query = "SELECT 1 FROM tasks WHERE agent = ? AND remote = ? AND caller <> ?"

        def work(db: sqlite3.Connection) -> bool:
            if db.execute(query, (record.agent, remote, record.caller)).fetchone():
                return False
            change = "UPDATE tasks SET remote = ?, context = ?, place = ?, state = 'submitted' WHERE id = ?"
            db.execute(change, (remote, record.context, record.place, record.id))
            return True

        return await self._run(work)

    async def waiting_for_approval(self, caller: str, agent: str, context: str) -> Record | None:
        query = f"{_SELECT} WHERE caller = ? AND agent = ? AND context = ? AND state = 'input_required'"
        rows = await self._run(lambda db: db.execute(query, (caller, agent, context)).fetchall())
        records = [Record(*row) for row in rows]
        return next((one for one in records if one.question and json.loads(one.question).get("change")), None)

    # Messages into a running task

    async def begin_message(self, id: str, task: str, question: str, kind: str, settle_s: float) -> None:
        """Write down an answer before it is sent. One question gets one answer, from whichever client; only when the
        agent still asks long after it may a person answer anew."""

        def work(db: sqlite3.Connection) -> None:
            now = time.time()
            db.execute(
                "DELETE FROM messages WHERE task = ? AND question = ? AND at < ?", (task, question, now - settle_s)
            )
            db.execute(
                "INSERT INTO messages (id, task, question, kind, state, at) VALUES (?, ?, ?, ?, 'sending', ?)",
                (id, task, question, kind, now),
            )

        try:
            await self._run(work)
        except sqlite3.IntegrityError:
            raise Refusal(
                f"That question was answered already, and nothing is sent twice. wait_for_task {task} says how it went."
            ) from None

    async def answered(self, task: str) -> dict[str, float]:
        query = "SELECT question, at FROM messages WHERE task = ?"
        return dict(await self._run(lambda db: db.execute(query, (task,)).fetchall()))

    async def end_message(self, id: str, *, sent: bool) -> None:
        """`sent=False`: it surely did not arrive, so the question may be answered anew."""
        change = "UPDATE messages SET state = 'sent' WHERE id = ?" if sent else "DELETE FROM messages WHERE id = ?"
        await self._run(lambda db: db.execute(change, (id,)))

    # Artifacts and cards

    async def artifacts(self, task: str) -> list[Json]:
        query = "SELECT body FROM artifacts WHERE task = ? ORDER BY number"
        rows = await self._run(lambda db: db.execute(query, (task,)).fetchall())
        return [json.loads(row[0]) for row in rows]

    async def seen_card(self, agent: str, digest: str, parts: dict[str, str]) -> tuple[float, str]:
        """When the agent's card last changed and in what; (0, "") when it never did since we know it."""

        def work(db: sqlite3.Connection) -> tuple[float, str]:
            row = db.execute("SELECT digest, changed, what, parts FROM cards WHERE agent = ?", (agent,)).fetchone()
            if row is not None and row[0] == digest:
                return row[1], row[2]
            changed, what = 0.0, ""
            if row is not None:
                before = json.loads(row[3])
                differing = sorted(name for name in {*before, *parts} if before.get(name) != parts.get(name))
                changed, what = time.time(), ", ".join(differing)[:200]
            db.execute(
                "INSERT OR REPLACE INTO cards (agent, digest, changed, what, parts) VALUES (?, ?, ?, ?, ?)",
                (agent, digest, changed, what, json.dumps(parts)),
            )
            return changed, what

        return await self._run(work)


def _in_transaction(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return result


def _size(artifact: Json) -> int:
    return sum(len(part.get("text", "")) + len(part.get("raw", "")) for part in artifact.get("parts", []))


def _values(record: Record) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _FIELDS)
