"""The bridge's memory: every task it handed out, in a store that all clients of a person share.

A message's id is ours and is written down before the message is sent; it is never sent again. So after kill -9 the
task is found here, and what is not known is said to be unknown instead of being tried twice.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from quarterdeck.bridge.store import Db, Store, Taken, store_of
from quarterdeck.keel.answers import one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings

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
STALE_S = 86400.0
"""A task that another machine queued so long ago was never sent: no process waits for its turn longer."""
ROOM_EVERY = 25
"""Tasks begun between two looks at what may be forgotten."""


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


_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
"""One for each five bits; none of them is i, l, o or u."""


def new_id(prefix: str) -> str:
    return f"{prefix}-" + "".join(_LETTERS[byte & 31] for byte in secrets.token_bytes(10))


def here() -> str:
    return f"process {os.getpid()} of {platform.node()}"


def is_gone(record: Record) -> bool:
    """Whether the process that holds a queued task is no more. Of another machine's processes only time tells."""
    number, _, machine = record.place.removeprefix("process ").partition(" of ")
    if machine != platform.node():
        return time.time() - record.created > STALE_S
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
    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun = 0

    @classmethod
    def of(cls, settings: Settings) -> Memory:
        return cls(store_of(settings.home, settings.bridge.database.get_secret_value()))

    def close(self) -> None:
        self._store.close()

    # Tasks

    async def begin(self, record: Record) -> Record:
        """Write down a task before its message is sent. With a key that is known: the task that has it already."""

        def work(db: Db) -> Record:
            if record.key:
                query = f"{_SELECT} WHERE caller = ? AND key = ? AND key <> ''"
                row = db.execute(query, (record.caller, record.key)).fetchone()
                if row is not None:
                    return Record(*row)
            self._make_room(db, record.caller)
            marks = ", ".join("?" * len(_FIELDS))
            db.execute(f"INSERT INTO tasks ({', '.join(_FIELDS)}) VALUES ({marks})", _values(record))
            return record

        return await self._store.write(work)

    def _make_room(self, db: Db, caller: str) -> None:
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

        def work(db: Db) -> None:
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
            for number, body in enumerate(artifacts or ()):
                db.execute(
                    "INSERT INTO artifacts (task, number, body) VALUES (?, ?, ?)"
                    " ON CONFLICT (task, number) DO UPDATE SET body = excluded.body",
                    (kept.id, number, json.dumps(body)),
                )

        await self._store.write(work, heavy=artifacts is not None and sum(map(_size, artifacts)) > LARGE)

    async def set_approval(self, id: str, approval: str) -> None:
        await self._store.write(lambda db: db.execute("UPDATE tasks SET approval = ? WHERE id = ?", (approval, id)))

    async def get(self, id: str, caller: str) -> Record:
        query = f"{_SELECT} WHERE id = ? AND caller = ?"
        row = await self._store.read(lambda db: db.execute(query, (id, caller)).fetchone())
        if row is None:
            raise Refusal(f"There is no task {one_line(id)[:40]!r} of yours. list_tasks shows those there are.")
        return Record(*row)

    async def by_approval(self, approval: str, caller: str) -> Record | None:
        query = f"{_SELECT} WHERE approval = ? AND approval <> '' AND caller = ?"
        row = await self._store.read(lambda db: db.execute(query, (approval, caller)).fetchone())
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

        def work(db: Db) -> tuple[list[Record], int]:
            count = db.execute(f"SELECT count(*) FROM tasks WHERE {condition}", tuple(values)).fetchone()[0]
            rows = db.execute(
                f"{_SELECT} WHERE {condition} ORDER BY created DESC LIMIT ? OFFSET ?", (*values, most, skip)
            ).fetchall()
            return [Record(*row) for row in rows], int(count)

        return await self._store.read(work)

    async def claim(self, record: Record, remote: str) -> bool:
        """Note the agent's id of a task, unless that id belongs to a task of another caller."""
        query = "SELECT 1 FROM tasks WHERE agent = ? AND remote = ? AND remote <> '' AND caller <> ?"

        def work(db: Db) -> bool:
            if db.execute(query, (record.agent, remote, record.caller)).fetchone():
                return False
            change = "UPDATE tasks SET remote = ?, context = ?, place = ?, state = 'submitted' WHERE id = ?"
            db.execute(change, (remote, record.context, record.place, record.id))
            return True

        return await self._store.write(work)

    async def waiting_for_approval(self, caller: str, agent: str, context: str) -> Record | None:
        query = f"{_SELECT} WHERE caller = ? AND agent = ? AND context = ? AND state = 'input_required'"
        rows = await self._store.read(lambda db: db.execute(query, (caller, agent, context)).fetchall())
        records = [Record(*row) for row in rows]
        return next((one for one in records if one.question and json.loads(one.question).get("change")), None)

    # Messages into a running task

    async def begin_message(self, id: str, task: str, question: str, kind: str, settle_s: float) -> None:
        """Write down an answer before it is sent. One question gets one answer, from whichever client; only when the
        agent still asks long after it may a person answer anew."""

        def work(db: Db) -> None:
            now = time.time()
            db.execute(
                "DELETE FROM messages WHERE task = ? AND question = ? AND at < ?", (task, question, now - settle_s)
            )
            db.execute(
                "INSERT INTO messages (id, task, question, kind, state, at) VALUES (?, ?, ?, ?, 'sending', ?)",
                (id, task, question, kind, now),
            )

        try:
            await self._store.write(work)
        except Taken:
            raise Refusal(
                f"That question was answered already, and nothing is sent twice. wait_for_task {task} says how it went."
            ) from None

    async def answered(self, task: str) -> dict[str, float]:
        query = "SELECT question, at FROM messages WHERE task = ?"
        return dict(await self._store.read(lambda db: db.execute(query, (task,)).fetchall()))

    async def end_message(self, id: str, *, sent: bool) -> None:
        """`sent=False`: it surely did not arrive, so the question may be answered anew."""
        change = "UPDATE messages SET state = 'sent' WHERE id = ?" if sent else "DELETE FROM messages WHERE id = ?"
        await self._store.write(lambda db: db.execute(change, (id,)))

    # Artifacts and cards

    async def artifacts(self, task: str) -> list[Json]:
        query = "SELECT body FROM artifacts WHERE task = ? ORDER BY number"
        rows = await self._store.read(lambda db: db.execute(query, (task,)).fetchall())
        return [json.loads(row[0]) for row in rows]

    async def seen_card(self, agent: str, digest: str, parts: dict[str, str]) -> tuple[float, str]:
        """When the agent's card last changed and in what; (0, "") when it never did since we know it."""

        def work(db: Db) -> tuple[float, str]:
            row = db.execute("SELECT digest, changed, what, parts FROM cards WHERE agent = ?", (agent,)).fetchone()
            if row is not None and row[0] == digest:
                return row[1], row[2]
            changed, what = 0.0, ""
            if row is not None:
                before = json.loads(row[3])
                differing = sorted(name for name in {*before, *parts} if before.get(name) != parts.get(name))
                changed, what = time.time(), ", ".join(differing)[:200]
            db.execute(
                "INSERT INTO cards (agent, digest, changed, what, parts) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (agent) DO UPDATE SET digest = excluded.digest, changed = excluded.changed,"
                " what = excluded.what, parts = excluded.parts",
                (agent, digest, changed, what, json.dumps(parts)),
            )
            return changed, what

        return await self._store.write(work)

    async def keep_catalogue(self, registry: str, heard: float, body: str) -> None:
        """What a registry listed; another process's younger list stays."""
        change = (
            "INSERT INTO catalogues (registry, heard, body) VALUES (?, ?, ?) ON CONFLICT (registry) DO UPDATE"
            " SET heard = excluded.heard, body = excluded.body WHERE catalogues.heard < excluded.heard"
        )
        await self._store.write(lambda db: db.execute(change, (registry, heard, body)), heavy=len(body) > LARGE)

    async def kept_catalogue(self, registry: str) -> tuple[float, str]:
        query = "SELECT heard, body FROM catalogues WHERE registry = ?"
        row = await self._store.read(lambda db: db.execute(query, (registry,)).fetchone())
        return (float(row[0]), str(row[1])) if row else (0.0, "")


def _size(artifact: Json) -> int:
    return sum(len(part.get("text", "")) + len(part.get("raw", "")) for part in artifact.get("parts", []))


def _values(record: Record) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _FIELDS)
