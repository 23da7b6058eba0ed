"""Who runs which flow: heartbeats, and flows that change hands."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from quarterdeck.keel.flowdb import APP, MOST_ROWS, Database

LEFT = -1
"""The heartbeat of a process that ended in order: its flows are free at once."""
ENDED = "('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')"
MOST_FORGOTTEN = 500


@dataclass(frozen=True)
class Other:
    """A process that has flows which did not end. `beats` is None when it never registered."""

    id: str
    beats: int | None
    gone: bool
    """It ended in order, or it ran on this host and is not there any more."""


class Owners:
    def __init__(self, database: Database) -> None:
        self._db = database

    def owners(self, flows: Iterable[str]) -> dict[str, tuple[str, str | None]]:
        """State and owner's token of flows."""
        with self._db.reading() as db:
            rows = self._db.some(
                db,
                "SELECT workflow_uuid AS id, status, owner_xid FROM {d}workflow_status WHERE workflow_uuid IN :ids",
                flows,
            )
            return {row.id: (row.status, row.owner_xid) for row in rows}

    def beat(self, id: str, host: str, pid: int, born: str, beats: int) -> None:
        with self._db.writing() as db:
            self._db.do(
                db,
                "INSERT INTO {q}executors (id, host, pid, born, beats, at) VALUES (:id, :host, :pid, :born, :beats,"
                " {now}) ON CONFLICT (id) DO UPDATE SET beats = excluded.beats, at = excluded.at",
                id=id,
                host=host,
                pid=pid,
                born=born,
                beats=beats,
            )

    def others(self, me: str, names: Iterable[str]) -> list[Other]:
        """Who has unfinished flows that we could run."""
        with self._db.reading() as db:
            rows = self._db.some(
                db,
                "SELECT DISTINCT w.executor_id AS id, x.host, x.pid, x.born, x.beats FROM {d}workflow_status w"
                " LEFT JOIN {q}executors x ON x.id = w.executor_id WHERE w.status = 'PENDING'"
                " AND w.application_name = :app AND w.executor_id <> :me AND w.name IN :ids",
                names,
                app=APP,
                me=me,
            )
            return [
                Other(
                    row.id,
                    row.beats,
                    row.beats == LEFT or (row.host == this_host() and bool(row.pid) and born(row.pid) != row.born),
                )
                for row in rows
            ]

    def take(self, me: str, token: str, other: Other, names: Iterable[str]) -> list[str]:
        """Take a dead process's flows. Of several that try, each flow goes to one; none if it beats again."""
        with self._db.writing() as db:
            alive = "SELECT 1 FROM {q}executors x WHERE x.id = :other AND x.beats <> :beats"
            rows = self._db.some(
                db,
                "UPDATE {d}workflow_status SET executor_id = :me, owner_xid = :token, updated_at = {now},"
                " recovery_attempts = recovery_attempts + :crashed WHERE executor_id = :other AND status = 'PENDING'"
                " AND workflow_uuid IN (SELECT workflow_uuid FROM {d}workflow_status WHERE executor_id = :other"
                f" AND status = 'PENDING' AND name IN :ids LIMIT {MOST_ROWS}) AND NOT EXISTS ({alive})"
                " RETURNING workflow_uuid AS id",
                names,
                me=me,
                token=token,
                other=other.id,
                beats=-2 if other.beats is None else other.beats,
                crashed=0 if other.beats == LEFT else 1,
            )
            taken = [row.id for row in rows]
            self._forget_errors(db, taken)
            return taken

    def orphans(self, me: str, names: Iterable[str]) -> list[str]:
        """Flows that are ours by the book."""
        with self._db.reading() as db:
            rows = self._db.some(
                db,
                "SELECT workflow_uuid AS id FROM {d}workflow_status WHERE executor_id = :me AND status = 'PENDING'"
                " AND application_name = :app AND name IN :ids LIMIT 20000",
                names,
                app=APP,
                me=me,
            )
            return [row.id for row in rows]

    def cancel(self, id: str) -> None:
        """End a flow from outside; who runs it sees that it does not own it any more."""
        with self._db.writing() as db:
            self._db.do(
                db,
                "UPDATE {d}workflow_status SET status = 'CANCELLED', owner_xid = NULL, queue_name = NULL,"
                " updated_at = {now}, completed_at = {now} WHERE workflow_uuid = :id"
                " AND status IN ('PENDING', 'ENQUEUED', 'DELAYED')",
                id=id,
            )

    def reopen(self, id: str, me: str, token: str, states: Iterable[str]) -> bool:
        """Make a flow ours that was cancelled, failed, or stopped for want of a writable database."""
        with self._db.writing() as db:
            rows = self._db.some(
                db,
                "UPDATE {d}workflow_status SET status = 'PENDING', executor_id = :me, owner_xid = :token,"
                " updated_at = {now}, completed_at = NULL WHERE workflow_uuid = :id AND status IN :ids"
                " RETURNING workflow_uuid AS id, recovery_attempts",
                states,
                id=id,
                me=me,
                token=token,
            )
            self._forget_errors(db, [row.id for row in rows])
            return len(rows) == 1

    def _forget_errors(self, db: sa.Connection, flows: list[str]) -> None:
        """A step of ours never records an error; one that is there is the database's own, of the moment it was full."""
        self._db.some(
            db,
            "DELETE FROM {d}operation_outputs WHERE error IS NOT NULL AND workflow_uuid IN :ids RETURNING function_id",
            flows,
        )

    def forget_failure(self, flow: str) -> None:
        """Let a failed flow do its last step again, if that is what failed."""
        with self._db.writing() as db:
            last = self._db.do(
                db,
                "SELECT function_id, output FROM {d}operation_outputs WHERE workflow_uuid = :id"
                " ORDER BY function_id DESC LIMIT 1",
                id=flow,
            ).one_or_none()
            if last is not None and last.output and "failed" in json.loads(last.output):
                self._db.do(
                    db,
                    "DELETE FROM {d}operation_outputs WHERE workflow_uuid = :id AND function_id = :number",
                    id=flow,
                    number=last.function_id,
                )
            self._db.do(db, "DELETE FROM {d}workflow_output WHERE workflow_uuid = :id", id=flow)

    def old(self, keep_s: float) -> list[str]:
        """Flows that ended longer ago, a few at a time: whoever asks comes again."""
        with self._db.reading() as db:
            rows = self._db.do(
                db,
                f"SELECT workflow_uuid AS id FROM {{d}}workflow_status WHERE status IN {ENDED}"
                " AND updated_at < {now} - :keep ORDER BY updated_at LIMIT :most",
                keep=int(keep_s * 1000),
                most=MOST_FORGOTTEN,
            )
            return [row.id for row in rows]

    def forget(self, flows: list[str]) -> int:
        """Delete ended flows. Only their status has a foreign key, so the rest is named table by table."""
        with self._db.writing() as db:
            gone = "RETURNING workflow_uuid AS id"
            rows = self._db.some(
                db, f"DELETE FROM {{d}}workflow_status WHERE workflow_uuid IN :ids AND status IN {ENDED} {gone}", flows
            )
            ids = [row.id for row in rows]
            for table in ("{d}workflow_input", "{d}workflow_output", "{d}operation_outputs"):
                self._db.some(db, f"DELETE FROM {table} WHERE workflow_uuid IN :ids {gone}", ids)
            for table in ("{q}items", "{q}questions"):
                self._db.some(db, f"DELETE FROM {table} WHERE flow IN :ids RETURNING flow", ids)
            return len(ids)

    def left(self, id: str) -> None:
        """Say that this process ends in order, and forget the rows of those that left nothing behind."""
        with self._db.writing() as db:
            self._db.do(db, "UPDATE {q}executors SET beats = :left WHERE id = :id", left=LEFT, id=id)
            self._db.do(
                db,
                "DELETE FROM {q}executors AS x WHERE (beats = :left OR at < {now} - 86400000) AND NOT EXISTS"
                " (SELECT 1 FROM {d}workflow_status w WHERE w.executor_id = x.id AND w.status = 'PENDING')",
                left=LEFT,
            )


def this_host() -> str:
    """Where our process ids mean something: this boot of this machine, seen from inside this container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def born(pid: int) -> str:
    """When a process of this host started, as its kernel says it; empty if it is gone or cannot be told."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except OSError:
            pass
        return "unknown"
    fields = line.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
