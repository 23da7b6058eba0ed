"""The database of the flows: DBOS's tables, and beside them what was asked, what happened, and who is alive.

On SQLite everything is in one file in WAL mode; on PostgreSQL DBOS's tables are in the schema `dbos`, ours in
`quarterdeck`. Every time that is stored or compared comes from the database's clock.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flows import Flow, Item, Question, State
from quarterdeck.keel.redact import redact

APP = "quarterdeck"
BUSY_MS = 5_000
"""How long a writer waits for the others."""
MOST_ROWS = 500
"""Rows that one question to the database may bring back."""
LEFT = -1
"""The heartbeat of a process that ended in order: its flows are free at once."""

STATES: dict[str, State] = {"SUCCESS": "completed", "ERROR": "failed", "CANCELLED": "cancelled"}
STATES["MAX_RECOVERY_ATTEMPTS_EXCEEDED"] = "failed"

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

_FLOW = (
    "w.workflow_uuid AS id, w.name, w.status, w.created_at, w.updated_at, w.executor_id, o.error,"
    " EXISTS (SELECT 1 FROM {q}questions p WHERE p.flow = w.workflow_uuid AND p.state = 'open') AS asks"
)


@dataclass(frozen=True)
class Other:
    """A process that has flows which did not end. `beats` is None when it never registered."""

    id: str
    beats: int | None
    gone: bool
    """It ended in order, or it ran on this host and is not there any more."""


class Store:
    def __init__(self, url: str, home: Path) -> None:
        self.place = "the flows' database" if url else str(home / "flows.db")
        self.sqlite = not url or url.startswith("sqlite")
        if self.sqlite:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
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
            connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1000},
        )

        @event.listens_for(made, "connect")
        def prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = "IMMEDIATE"  # a transaction takes the writers' lock when it begins
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")

        return made

    def create(self) -> None:
        with self._writing() as db:
            if self.sqlite:
                db.execute(sa.text("BEGIN IMMEDIATE"))
            else:
                db.execute(sa.text("SELECT pg_advisory_xact_lock(20261121)"))
                db.execute(sa.text("CREATE SCHEMA IF NOT EXISTS quarterdeck"))
            for table in TABLES:
                self._do(db, table)
        if self.sqlite and (name := self.engine.url.database):
            Path(name).chmod(0o600)

    def close(self) -> None:
        self.engine.dispose()

    # What a flow says

    def say(self, flow: str, owner: str, place: str, kind: str, text: str, share: float | None, data: str) -> None:
        """One item, once for its place, and only while the flow is still ours."""
        for _ in range(5):
            try:
                with self._writing() as db:
                    self._item(db, flow, place, kind, text, share, data, "", owner)
                    return
            except IntegrityError:  # another process took the same number in the same moment
                continue

    def _item(
        self,
        db: sa.Connection,
        flow: str,
        place: str,
        kind: str,
        text: str,
        share: float | None,
        data: str,
        question: str,
        owner: str = "",
    ) -> None:
        fence = " AND EXISTS (SELECT 1 FROM {d}workflow_status WHERE workflow_uuid = :flow AND owner_xid = :owner)"
        self._do(
            db,
            "INSERT INTO {q}items (flow, number, place, kind, text, share, data, question, at)"
            " SELECT CAST(:flow AS TEXT), (SELECT COALESCE(MAX(number), 0) + 1 FROM {q}items WHERE flow = :flow),"
            " CAST(:place AS TEXT), CAST(:kind AS TEXT), CAST(:text AS TEXT), CAST(:share AS FLOAT),"
            " CAST(:data AS TEXT), CAST(:question AS TEXT), {now} WHERE NOT EXISTS"
            " (SELECT 1 FROM {q}items WHERE flow = :flow AND place = :place)" + (fence if owner else ""),
            flow=flow,
            place=place,
            kind=kind,
            text=text,
            share=share,
            data=data,
            question=question,
            **({"owner": owner} if owner else {}),
        )

    def items(self, flow: str, after: int) -> list[Item]:
        with self._reading() as db:
            rows = self._do(
                db,
                "SELECT * FROM {q}items WHERE flow = :flow AND number > :after ORDER BY number LIMIT :most",
                flow=flow,
                after=after,
                most=MOST_ROWS,
            ).mappings()
            return [
                Item(
                    row["number"],
                    row["kind"],
                    row["text"],
                    row["at"] / 1000,
                    row["share"],
                    json.loads(row["data"]),
                    row["question"],
                )
                for row in rows
            ]

    # Questions

    def ask(self, id: str, flow: str, owner: str, text: str, data: str, timeout_s: float) -> tuple[float, str | None]:
        """Put a question, or find it again: seconds that are left, and the answer if there is one already."""
        with self._writing() as db:
            self._do(
                db,
                "INSERT INTO {q}questions AS x (id, flow, text, data, asked, until, state)"
                " SELECT CAST(:id AS TEXT), CAST(:flow AS TEXT), CAST(:text AS TEXT), CAST(:data AS TEXT), {now},"
                " {now} + :ms, 'open' WHERE EXISTS"
                " (SELECT 1 FROM {d}workflow_status WHERE workflow_uuid = :flow AND owner_xid = :owner)"
                " ON CONFLICT (id) DO UPDATE SET state = 'open', until = {now} + :ms"
                " WHERE x.state = 'withdrawn'",
                id=id,
                flow=flow,
                owner=owner,
                text=text,
                data=data,
                ms=int(timeout_s * 1000),
            )
            self._item(db, flow, f"ask {id}", "question", text, None, data, id, owner)
            row = self._do(
                db, "SELECT until - {now} AS left_ms, answer FROM {q}questions WHERE id = :id", id=id
            ).one_or_none()
            return (0.0, None) if row is None else (row.left_ms / 1000, row.answer)

    def answer(self, flow: str, question: str, answer: str, text: str) -> None:
        with self._writing() as db:
            done = self._do(
                db,
                "UPDATE {q}questions SET state = 'answered', answer = :answer"
                " WHERE id = :id AND flow = :flow AND state = 'open' AND until > {now}",
                id=question,
                flow=flow,
                answer=answer,
            )
            if done.rowcount == 1:
                self._item(db, flow, f"answer {question}", "answer", text, None, answer, question)
                return
            row = self._do(
                db,
                "SELECT state, answer FROM {q}questions WHERE id = :id AND flow = :flow",
                id=question,
                flow=flow,
            ).one_or_none()
        if row is None:
            raise Refusal(f"Flow {flow!r} has no question {question!r}. Look at its status for the open one.")
        if row.state == "answered":
            by = json.loads(row.answer).get("by") or "somebody"
            raise Refusal(f"That question was already answered by {by}; the first answer counts.")
        if row.state == "withdrawn":
            raise Refusal("That question was withdrawn: the flow was cancelled.")
        raise Refusal("That answer comes too late: the time to answer has run out.")

    def expire(self, question: str) -> str | None:
        """Close a question whose time is over; an answer that came at the last moment counts."""
        with self._writing() as db:
            self._do(db, "UPDATE {q}questions SET state = 'expired' WHERE id = :id AND state = 'open'", id=question)
            found = self._do(db, "SELECT answer FROM {q}questions WHERE id = :id", id=question).scalar()
            return None if found is None else str(found)

    def answers(self, questions: Iterable[str]) -> dict[str, str]:
        with self._reading() as db:
            rows = self._in(
                db, "SELECT id, answer FROM {q}questions WHERE answer IS NOT NULL AND id IN :ids", questions
            )
            return {row.id: row.answer for row in rows}

    def withdraw(self, flow: str) -> None:
        with self._writing() as db:
            self._do(db, "UPDATE {q}questions SET state = 'withdrawn' WHERE flow = :id AND state = 'open'", id=flow)

    # Flows as they stand

    def flow(self, id: str) -> Flow | None:
        with self._reading() as db:
            row = self._do(
                db,
                f"SELECT {_FLOW}, o.output, i.inputs FROM {{d}}workflow_status w"
                " LEFT JOIN {d}workflow_output o ON o.workflow_uuid = w.workflow_uuid"
                " LEFT JOIN {d}workflow_input i ON i.workflow_uuid = w.workflow_uuid WHERE w.workflow_uuid = :id",
                id=id,
            ).one_or_none()
            return None if row is None else self._flows(db, [row])[0]

    def flows(self, name: str, state: str, limit: int, offset: int) -> list[Flow]:
        where = ["w.application_name = :app"]
        if name:
            where.append("w.name = :name")
        asks = "EXISTS (SELECT 1 FROM {q}questions p WHERE p.flow = w.workflow_uuid AND p.state = 'open')"
        match state:
            case "":
                pass
            case "working" | "waiting":
                where.append("w.status IN ('PENDING', 'ENQUEUED', 'DELAYED')")
                where.append(asks if state == "waiting" else f"NOT {asks}")
            case _:
                kept = ", ".join(f"'{status}'" for status, means in STATES.items() if means == state)
                where.append(f"w.status IN ({kept})")
        with self._reading() as db:
            rows = self._do(
                db,
                f"SELECT {_FLOW} FROM {{d}}workflow_status w LEFT JOIN {{d}}workflow_output o"
                f" ON o.workflow_uuid = w.workflow_uuid WHERE {' AND '.join(where)}"
                " ORDER BY w.created_at DESC, w.workflow_uuid LIMIT :limit OFFSET :offset",
                app=APP,
                limit=limit,
                offset=offset,
                **({"name": name} if name else {}),
            ).all()
            return self._flows(db, rows)

    def _flows(self, db: sa.Connection, rows: Iterable[Any]) -> list[Flow]:
        rows = list(rows)
        asking = [row.id for row in rows if row.asks and row.status not in STATES]
        questions: dict[str, Question] = {}
        if asking:
            for row in self._in(
                db, "SELECT * FROM {q}questions WHERE state = 'open' AND flow IN :ids ORDER BY asked DESC", asking
            ):
                questions[row.flow] = Question(
                    row.id, row.flow, row.text, json.loads(row.data), row.asked / 1000, row.until / 1000
                )
        return [self._as_flow(row, questions.get(row.id)) for row in rows]

    def _as_flow(self, row: Any, question: Question | None) -> Flow:
        output, inputs = getattr(row, "output", None), getattr(row, "inputs", None)
        error = json.loads(row.error).get("message", "") if row.error else ""
        if row.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
            error = "Every process that ran this flow died; it is not tried again."
        return Flow(
            id=row.id,
            name=row.name,
            state=STATES.get(row.status) or ("waiting" if question else "working"),
            created=row.created_at / 1000,
            updated=row.updated_at / 1000,
            executor=row.executor_id or "",
            question=question,
            result=json.loads(output) if output else None,
            error=error,
            argument=(json.loads(inputs)["positionalArgs"] or [{}])[0] if inputs else {},
        )

    def now(self) -> float:
        with self._reading() as db:
            return int(self._do(db, "SELECT {now}").scalar_one()) / 1000

    # Who runs what

    def owners(self, flows: Iterable[str]) -> dict[str, tuple[str, str | None]]:
        """State and owner's token of flows."""
        with self._reading() as db:
            rows = self._in(
                db,
                "SELECT workflow_uuid AS id, status, owner_xid FROM {d}workflow_status WHERE workflow_uuid IN :ids",
                flows,
            )
            return {row.id: (row.status, row.owner_xid) for row in rows}

    def beat(self, id: str, host: str, pid: int, born: str, beats: int) -> None:
        with self._writing() as db:
            self._do(
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
        with self._reading() as db:
            rows = self._in(
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
        with self._writing() as db:
            alive = "SELECT 1 FROM {q}executors x WHERE x.id = :other AND x.beats <> :beats"
            rows = self._in(
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
        with self._reading() as db:
            rows = self._in(
                db,
                "SELECT workflow_uuid AS id FROM {d}workflow_status WHERE executor_id = :me AND status = 'PENDING'"
                " AND application_name = :app AND name IN :ids LIMIT 20000",
                names,
                app=APP,
                me=me,
            )
            return [row.id for row in rows]

    def reopen(self, id: str, me: str, token: str, states: Iterable[str]) -> bool:
        """Make a flow ours that was cancelled, failed, or stopped for want of a writable database."""
        with self._writing() as db:
            rows = self._in(
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
        self._in(
            db,
            "DELETE FROM {d}operation_outputs WHERE error IS NOT NULL AND workflow_uuid IN :ids RETURNING function_id",
            flows,
        )

    def forget_failure(self, flow: str) -> None:
        """Let a failed flow do its last step again, if that is what failed."""
        with self._writing() as db:
            last = self._do(
                db,
                "SELECT function_id, output FROM {d}operation_outputs WHERE workflow_uuid = :id"
                " ORDER BY function_id DESC LIMIT 1",
                id=flow,
            ).one_or_none()
            if last is not None and last.output and "failed" in json.loads(last.output):
                self._do(
                    db,
                    "DELETE FROM {d}operation_outputs WHERE workflow_uuid = :id AND function_id = :number",
                    id=flow,
                    number=last.function_id,
                )
            self._do(db, "DELETE FROM {d}workflow_output WHERE workflow_uuid = :id", id=flow)

    def left(self, id: str) -> None:
        """Say that this process ends in order, and forget the rows of those that left nothing behind."""
        with self._writing() as db:
            self._do(db, "UPDATE {q}executors SET beats = :left WHERE id = :id", left=LEFT, id=id)
            self._do(
                db,
                "DELETE FROM {q}executors AS x WHERE (beats = :left OR at < {now} - 86400000) AND NOT EXISTS"
                " (SELECT 1 FROM {d}workflow_status w WHERE w.executor_id = x.id AND w.status = 'PENDING')",
                left=LEFT,
            )

    # SQL

    def _do(self, db: sa.Connection, statement: str, **values: Any) -> sa.CursorResult[Any]:
        return db.execute(sa.text(statement.format(**self._names)), values)

    def _in(self, db: sa.Connection, statement: str, ids: Iterable[str], **values: Any) -> list[Any]:
        text = sa.text(statement.format(**self._names)).bindparams(sa.bindparam("ids", expanding=True))
        found: list[Any] = []
        every = list(ids)
        for start in range(0, len(every), MOST_ROWS):
            found += db.execute(text, {"ids": every[start : start + MOST_ROWS], **values}).all()
        return found

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self.engine.begin() as db:
            yield db

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as db:
            yield db

    def unusable(self, error: BaseException) -> Refusal:
        """What a caller is told when the database does not do its part."""
        reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        advice = "Free space, mend its permissions or its server, then try again with the same id."
        return Refusal(f"Flows cannot be stored in {self.place} ({redact(reason)[:200]}). {advice}")


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


__all__ = ["APP", "Other", "SQLAlchemyError", "Store", "born", "this_host"]
