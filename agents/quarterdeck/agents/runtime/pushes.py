"""Where push configurations are kept, how far each was delivered, and which process delivers it.

A process that is alive renews its hold on what it delivers; what a dead one held is taken over by another one, or by
its own next start, when the hold has run out.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from a2a.types.a2a_pb2 import TaskPushNotificationConfig
from google.protobuf.json_format import MessageToJson, Parse

from quarterdeck.keel import sqlitefile
from quarterdeck.keel.errors import Refusal

MOST_OF_ONE = 10
"""Configurations that one task may have."""
MOST_OPEN = 5000
"""Deliveries that are not over, in all."""
KEPT = 5000
"""Deliveries that are over, kept so that they can still be listed."""
HOLD_S = 15.0
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS pushes (task TEXT NOT NULL, id TEXT NOT NULL, config TEXT NOT NULL,"
    " seen INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, holder TEXT NOT NULL, until REAL NOT NULL,"
    " PRIMARY KEY (task, id))"
)


@dataclass(frozen=True)
class Delivery:
    task: str
    config: TaskPushNotificationConfig
    seen: int
    """The last item that was delivered."""


class Pushes:
    """`me` names this process. Every call may block for a moment."""

    def __init__(self, home: Path, me: str) -> None:
        self._path, self._me = home / "push.db", me

    @contextmanager
    def _db(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlitefile.connect(self._path, 10)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(SCHEMA)
            yield db

    def save(self, config: TaskPushNotificationConfig) -> Delivery | None:
        """Keep a configuration. Returns what is now to be delivered here: nothing, when it is the same as before."""
        task, text = config.task_id, MessageToJson(config, indent=None)
        with self._db() as db:
            db.execute("BEGIN IMMEDIATE")
            known = db.execute("SELECT config FROM pushes WHERE task = ? AND id = ?", (task, config.id)).fetchone()
            if known is not None:
                # Who delivers it reads it before each post; one that was given up is taken up again.
                db.execute(
                    "UPDATE pushes SET config = ?, done = done AND ? WHERE task = ? AND id = ?",
                    (text, known[0] == text, task, config.id),
                )
                db.execute("COMMIT")
                return None
            of_task = db.execute("SELECT count(*) FROM pushes WHERE task = ?", (task,)).fetchone()[0]
            if of_task >= MOST_OF_ONE:
                raise Refusal(f"A task may have {MOST_OF_ONE} push configurations. Delete one first.")
            if db.execute("SELECT count(*) FROM pushes WHERE done = 0").fetchone()[0] >= MOST_OPEN:
                raise Refusal(f"{MOST_OPEN} push configurations are open already. Wait until some tasks have ended.")
            db.execute(
                "INSERT INTO pushes (task, id, config, holder, until) VALUES (?, ?, ?, ?, ?)",
                (task, config.id, text, self._me, time.time() + HOLD_S),
            )
            recent = f"SELECT rowid FROM pushes WHERE done = 1 ORDER BY rowid DESC LIMIT {KEPT}"
            db.execute(f"DELETE FROM pushes WHERE done = 1 AND rowid NOT IN ({recent})")
            db.execute("COMMIT")
        return Delivery(task, config, 0)

    def of(self, task: str) -> list[TaskPushNotificationConfig]:
        with self._db() as db:
            rows = db.execute("SELECT config FROM pushes WHERE task = ? ORDER BY rowid", (task,)).fetchall()
        return [Parse(row[0], TaskPushNotificationConfig()) for row in rows]

    def remove(self, task: str, id: str) -> None:
        with self._db() as db:
            db.execute("DELETE FROM pushes WHERE task = ? AND id = ?", (task, id))

    def held(self) -> list[Delivery]:
        """Renew the hold on what is ours, take what nobody holds any more, and return all of it."""
        if not self._path.exists():
            return []
        now = time.time()
        with self._db() as db:
            rows = db.execute(
                "UPDATE pushes SET holder = ?, until = ? WHERE done = 0 AND (holder = ? OR until < ? OR until > ?)"
                " RETURNING task, config, seen",
                (self._me, now + HOLD_S, self._me, now, now + 2 * HOLD_S),  # or a clock was set back
            ).fetchall()
        return [Delivery(row[0], Parse(row[1], TaskPushNotificationConfig()), row[2]) for row in rows]

    def ours(self, delivery: Delivery) -> TaskPushNotificationConfig | None:
        """The configuration as it now is; None when it was deleted, is over, or is another process's."""
        with self._db() as db:
            row = db.execute(
                "SELECT config FROM pushes WHERE task = ? AND id = ? AND holder = ? AND done = 0",
                (delivery.task, delivery.config.id, self._me),
            ).fetchone()
        return None if row is None else Parse(row[0], TaskPushNotificationConfig())

    def delivered(self, delivery: Delivery, seen: int, *, done: bool) -> None:
        with self._db() as db:
            db.execute(
                "UPDATE pushes SET seen = ?, done = ? WHERE task = ? AND id = ? AND holder = ?",
                (seen, done, delivery.task, delivery.config.id, self._me),
            )

    def give_up(self, delivery: Delivery) -> None:
        with self._db() as db:
            db.execute("UPDATE pushes SET done = 1 WHERE task = ? AND id = ?", (delivery.task, delivery.config.id))

    def let_go(self) -> None:
        """Another process, or the next start of this one, may go on at once."""
        if self._path.exists():
            with self._db() as db:
                db.execute("UPDATE pushes SET until = 0 WHERE holder = ?", (self._me,))
