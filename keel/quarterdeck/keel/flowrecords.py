"""What flows said, what they asked, and how they stand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowdb import APP, MOST_ROWS, Database
from quarterdeck.keel.flows import Flow, Item, Question, State

STATES: dict[str, State] = {"SUCCESS": "completed", "ERROR": "failed", "CANCELLED": "cancelled"}
STATES["MAX_RECOVERY_ATTEMPTS_EXCEEDED"] = "failed"

_FLOW = (
    "w.workflow_uuid AS id, w.name, w.status, w.created_at, w.updated_at, w.executor_id, o.error,"
    " (SELECT at FROM {q}items m WHERE m.flow = w.workflow_uuid ORDER BY m.number DESC LIMIT 1) AS said_at,"
    " EXISTS (SELECT 1 FROM {q}questions p WHERE p.flow = w.workflow_uuid AND p.state = 'open') AS asks"
)


class Records:
    def __init__(self, database: Database) -> None:
        self._db = database

    def say(self, flow: str, owner: str, place: str, kind: str, text: str, share: float | None, data: str) -> None:
        """One item, once for its place, and only while the flow is still ours."""
        for _ in range(5):
            try:
                with self._db.writing() as db:
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
        self._db.do(
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
        with self._db.reading() as db:
            rows = self._db.do(
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

    def ask(self, id: str, flow: str, owner: str, text: str, data: str, timeout_s: float) -> tuple[float, str | None]:
        """Put a question, or find it again: seconds that are left, and the answer if there is one already."""
        with self._db.writing() as db:
            self._db.do(
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
            row = self._db.do(
                db, "SELECT until - {now} AS left_ms, answer FROM {q}questions WHERE id = :id", id=id
            ).one_or_none()
            # Never longer than was asked for, should the clock have been set back meanwhile.
            return (0.0, None) if row is None else (min(row.left_ms / 1000, timeout_s), row.answer)

    def answer(self, flow: str, question: str, answer: str, text: str) -> None:
        with self._db.writing() as db:
            done = self._db.do(
                db,
                "UPDATE {q}questions SET state = 'answered', answer = :answer"
                " WHERE id = :id AND flow = :flow AND state = 'open'",  # who waits closes it, whatever a clock says
                id=question,
                flow=flow,
                answer=answer,
            )
            if done.rowcount == 1:
                self._item(db, flow, f"answer {question}", "answer", text, None, answer, question)
                return
            row = self._db.do(
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
        with self._db.writing() as db:
            self._db.do(db, "UPDATE {q}questions SET state = 'expired' WHERE id = :id AND state = 'open'", id=question)
            found = self._db.do(db, "SELECT answer FROM {q}questions WHERE id = :id", id=question).scalar()
            return None if found is None else str(found)

    def answers(self, questions: Iterable[str]) -> dict[str, str]:
        with self._db.reading() as db:
            rows = self._db.some(
                db, "SELECT id, answer FROM {q}questions WHERE answer IS NOT NULL AND id IN :ids", questions
            )
            return {row.id: row.answer for row in rows}

    def withdraw(self, flow: str) -> None:
        with self._db.writing() as db:
            self._db.do(db, "UPDATE {q}questions SET state = 'withdrawn' WHERE flow = :id AND state = 'open'", id=flow)

    def flow(self, id: str) -> Flow | None:
        with self._db.reading() as db:
            row = self._db.do(
                db,
                f"SELECT {_FLOW}, o.output, i.inputs FROM {{d}}workflow_status w"
                " LEFT JOIN {d}workflow_output o ON o.workflow_uuid = w.workflow_uuid"
                " LEFT JOIN {d}workflow_input i ON i.workflow_uuid = w.workflow_uuid WHERE w.workflow_uuid = :id",
                id=id,
            ).one_or_none()
            return None if row is None else self._flows(db, [row])[0]

    def flows(self, name: str, state: str, prefix: str, limit: int, offset: int) -> list[Flow]:
        where = ["w.application_name = :app"]
        if name:
            where.append("w.name = :name")
        if prefix:
            where.append("w.workflow_uuid LIKE :prefix")
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
        with self._db.reading() as db:
            rows = self._db.do(
                db,
                f"SELECT {_FLOW} FROM {{d}}workflow_status w LEFT JOIN {{d}}workflow_output o"
                f" ON o.workflow_uuid = w.workflow_uuid WHERE {' AND '.join(where)}"
                " ORDER BY w.created_at DESC, w.workflow_uuid LIMIT :limit OFFSET :offset",
                app=APP,
                limit=limit,
                offset=offset,
                **({"name": name} if name else {}),
                **({"prefix": f"{prefix.replace('%', '').replace('_', '')}%"} if prefix else {}),
            ).all()
            return self._flows(db, rows)

    def _flows(self, db: sa.Connection, rows: Iterable[Any]) -> list[Flow]:
        rows = list(rows)
        asking = [row.id for row in rows if row.asks and row.status not in STATES]
        questions: dict[str, Question] = {}
        if asking:
            for row in self._db.some(
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
            updated=max(row.updated_at, row.said_at or 0) / 1000,
            executor=row.executor_id or "",
            question=question,
            result=json.loads(output) if output else None,
            error=error,
            argument=(json.loads(inputs)["positionalArgs"] or [{}])[0] if inputs else {},
        )

    def now(self) -> float:
        with self._db.reading() as db:
            return int(self._db.do(db, "SELECT {now}").scalar_one()) / 1000
