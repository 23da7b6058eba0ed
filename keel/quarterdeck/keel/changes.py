"""Nothing changes the outside world without a grant: Change → Grant → apply → verify.

A tool computes a `Change` (what exactly, before and after, how to undo) and wraps it in a `Plan` that can apply and
verify it. Policy allows, denies or asks. A grant is bound to the digest of that very change and to its caller, is
used once and expires. Grants come from a person (`approve`, or a dialog the client really showed: consent.py) or
from a rule in the settings file, never from a tool call.

Everything lives in one SQLite file that the servers and the `quarterdeck` command share, and in the audit trail.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from quarterdeck.keel import audit, sqlitefile
from quarterdeck.keel.answers import one_line, plain, visible
from quarterdeck.keel.durations import say_duration
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.identity import CHANGE, Caller
from quarterdeck.keel.redact import redact
from quarterdeck.keel.settings import ChangesSettings, Settings

BUSY_S = 10.0
"""How long a writer waits for the others."""
MOST_PENDING = 50
"""Requests that may wait for a person at once, per caller: more than anybody reads."""


log = logging.getLogger(__name__)
_applying: dict[str, asyncio.Task[tuple[str, str]]] = {}
"""What this process is carrying out just now, by the change's id."""


@dataclass(frozen=True)
class Target:
    """One object that the change touches."""

    kind: str
    name: str
    namespace: str = ""
    context: str = ""
    uid: str = ""
    version: str = ""
    """The version that was shown (Kubernetes: resourceVersion)."""
    fingerprint: str = ""
    """What the grant is bound to: a hash over the object without what moves by itself, such as its status."""

    def __str__(self) -> str:
        place = "/".join(part for part in (self.context, self.namespace) if part)
        return f"{self.kind} {self.name}" + (f" in {place}" if place else "")


@dataclass(frozen=True)
class Change:
    """Exactly what would happen. Text is shown to a person, so it must hold no secret; `exact` is only hashed."""

    server: str
    tool: str
    summary: str
    targets: tuple[Target, ...]
    before: str
    after: str
    undo: str
    exact: str
    """Canonical text of what will be sent, secrets and all. It is never stored, shown or logged."""
    warnings: tuple[str, ...] = ()
    """What a person should know before saying yes; may differ from call to call (not part of the digest)."""

    def digest(self, caller: Caller) -> str:
        bound = {
            "caller": caller.id,
            "server": self.server,
            "tool": self.tool,
            "summary": self.summary,
            "targets": [{k: v for k, v in asdict(target).items() if k != "version"} for target in self.targets],
            "before": self.before,
            "after": self.after,
            "undo": self.undo,
            "exact": self.exact,
        }
        return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()

    def shown(self) -> str:
        """The whole change for a person's eyes: unseen characters spelled out, no secrets, no forged lines."""
        lines = [*_block("", self.summary), ""]
        for target in self.targets:
            lines += _block("object", f"{target}" + (f" (version {target.version})" if target.version else ""))
        lines += _block("before", self.before) + _block("after", self.after) + _block("undo", self.undo)
        for warning in self.warnings:
            lines += _block("note", warning)
        return "\n".join(lines)


def shown(text: str) -> str:
    """Part of a change as a person or a model may see it."""
    return redact(visible(text))


def _block(label: str, text: str) -> list[str]:
    """Further lines are indented, so that none can pass for a label. Each text is redacted by itself: what looks like
    the beginning of a secret in one must not swallow the next."""
    head, *rest = shown(text).split("\n")
    indent = f"{label:<8} " if label else ""
    return [f"{indent}{head}", *(f"{'':<8} {line}" for line in rest)]


@dataclass(frozen=True)
class Seen:
    """What verification saw after the change."""

    healthy: bool
    text: str


Report = Callable[[float, str], Awaitable[None]]
"""Progress: a fraction from 0 to 1 and what is happening."""


@dataclass(frozen=True)
class Plan:
    change: Change
    apply: Callable[[], Awaitable[str]]
    """Do it, if the object still is as the change says; say what was done. Raises Refusal when it is not."""
    verify: Callable[[Report], Awaitable[Seen]]


@dataclass(frozen=True)
class Pending:
    """A change as the ledger holds it."""

    id: str
    digest: str
    caller: str
    client: str
    server: str
    tool: str
    summary: str
    shown: str
    state: str
    created: float
    expires: float
    granted_by: str = ""
    granted_at: float = 0.0
    outcome: str = ""

    @property
    def waiting(self) -> bool:
        return self.state == "pending" and time.time() < self.expires

    @property
    def usable(self) -> bool:
        return self.state == "granted" and time.time() < self.expires


SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (
    id TEXT PRIMARY KEY, digest TEXT NOT NULL, caller TEXT NOT NULL, client TEXT NOT NULL,
    server TEXT NOT NULL, tool TEXT NOT NULL, summary TEXT NOT NULL, shown TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL,
    granted_by TEXT NOT NULL DEFAULT '', granted_at REAL NOT NULL DEFAULT 0, outcome TEXT NOT NULL DEFAULT '',
    declined INTEGER NOT NULL DEFAULT 0, key TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS changes_by_digest ON changes (digest, caller, state);
CREATE INDEX IF NOT EXISTS changes_by_time ON changes (created);
"""
KEYS = """
CREATE UNIQUE INDEX IF NOT EXISTS changes_by_key ON changes (caller, key) WHERE key <> '';
"""
_FIELDS = ", ".join(Pending.__dataclass_fields__)


@dataclass(frozen=True)
class Decision:
    decision: str
    by: str


@dataclass
class Changes:
    """The ledger of one Quarterdeck home: requests, grants, what became of them."""

    settings: ChangesSettings
    home: Path
    _ready: bool = field(default=False, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Changes:
        return cls(settings.changes, settings.home)

    @property
    def trail(self) -> Path:
        return self.home / "audit.jsonl"

    # What policy says

    def decide(self, change: Change, caller: Caller) -> Decision:
        """The strictest word over all objects the change touches; per object the first rule that fits decides."""
        if CHANGE not in caller.scopes:
            return Decision("deny", f"caller {caller.id} has no '{CHANGE}' scope")
        if not change.targets:
            return Decision("deny", "the house rule that a change names what it touches")
        decisions = [self._decide_one(change, target, caller) for target in change.targets]
        return min(decisions, key=lambda found: ("deny", "ask", "allow").index(found.decision))

    def _decide_one(self, change: Change, target: Target, caller: Caller) -> Decision:
        for number, rule in enumerate(self.settings.rules, 1):
            facts = (
                (rule.server, change.server),
                (rule.tool, change.tool),
                (rule.context, target.context),
                (rule.namespace, target.namespace),
                (rule.name, target.name),
                (rule.caller, caller.id),
            )
            if all(fnmatchcase(value, pattern) for pattern, value in facts):
                return Decision(rule.decision, f"policy rule {number}")
        return Decision(self.settings.default, "the default policy")

    # Requests and grants

    def request(self, change: Change, caller: Caller) -> Pending:
        """The request that waits for a person: the one already waiting for this very change, or a new one."""
        digest, now = change.digest(caller), time.time()
        with self._writing() as db:
            self._expire(db, now)
            row = db.execute(
                f"SELECT {_FIELDS} FROM changes WHERE digest = ? AND caller = ? AND state = 'pending'",
                (digest, caller.id),
            ).fetchone()
            if row is not None:
                return Pending(*row)
            waiting = db.execute(
                "SELECT count(*) FROM changes WHERE caller = ? AND state = 'pending'", (caller.id,)
            ).fetchone()
            if waiting[0] >= MOST_PENDING:
                raise Refusal(
                    f"{MOST_PENDING} changes already wait for a person, so nothing was changed. Tell the person to "
                    "decide some with `quarterdeck approve`."
                )
            pending = self._insert(db, change, caller, digest, now, "pending", self.settings.pending_s)
            self._record(db, "requested", pending)
            return pending

    def grant(self, id: str, by: str) -> Pending:
        """A person's yes to a waiting request. Only the first of two racing approvals grants."""
        now, by = time.time(), redact(plain(by))
        with self._writing() as db:
            self._expire(db, now)
            changed = db.execute(
                "UPDATE changes SET state = 'granted', granted_by = ?, granted_at = ?, expires = ?"
                " WHERE id = ? AND state = 'pending'",
                (by, now, now + self.settings.grant_s, id),
            )
            pending = self._get(db, id)
            if changed.rowcount != 1:
                raise Refusal(why_not(pending))
            self._record(db, "granted", pending, by=by)
            return pending

    def decline(self, id: str, by: str, *, final: bool) -> None:
        """A no. From a dialog it is not final: some clients decline by themselves, so a terminal may still approve."""
        with self._writing() as db:
            pending = self._get(db, id)
            state = "declined" if final else "pending"
            done = db.execute(
                "UPDATE changes SET declined = 1, state = ? WHERE id = ? AND state = 'pending'", (state, id)
            )
            if done.rowcount == 1:
                self._record(db, "declined", pending, by=by)
            elif final:
                raise Refusal(why_not(pending))

    def withdraw(self, id: str, why: str) -> None:
        """Take a request back, also one that was granted and not used yet: who asked for it wants it no more."""
        with self._writing() as db:
            pending = self._get(db, id)
            done = db.execute(
                "UPDATE changes SET state = 'expired' WHERE id = ? AND state IN ('pending', 'granted')", (id,)
            )
            if done.rowcount == 1:
                self._record(db, "withdrawn", pending, by=why)

    def was_declined(self, id: str) -> bool:
        with self._reading() as db:
            row = db.execute("SELECT declined FROM changes WHERE id = ?", (id,)).fetchone()
            return bool(row and row[0])

    def take_by_policy(self, change: Change, caller: Caller, rule: str, key: str = "") -> Pending:
        """A grant by a rule, used up as it is given: none is left over for when the rule is gone."""
        with self._writing() as db:
            self._unused(db, caller, key)
            pending = self._insert(db, change, caller, change.digest(caller), time.time(), "started", 0, rule)
            db.execute("UPDATE changes SET key = ? WHERE id = ?", (key, pending.id))
            self._record(db, "granted", pending, by=rule)
            self._record(db, "started", pending, by=rule)
            return pending

    def refuse_by_policy(self, change: Change, caller: Caller, by: str) -> None:
        now = time.time()
        with self._writing() as db:
            pending = self._insert(db, change, caller, change.digest(caller), now, "denied", 0)
            self._record(db, "denied", pending, by=by)

    def take(self, change: Change, caller: Caller, key: str = "") -> Pending | None:
        """Use up a grant for exactly this change, if there is one. From here on it can never be used again."""
        digest, now = change.digest(caller), time.time()
        with self._writing() as db:
            self._expire(db, now)
            self._unused(db, caller, key)
            row = db.execute(
                f"SELECT {_FIELDS} FROM changes WHERE digest = ? AND caller = ? AND state = 'granted' AND expires > ?"
                " ORDER BY granted_at LIMIT 1",
                (digest, caller.id, now),
            ).fetchone()
            if row is None:
                return None
            pending = Pending(*row)
            db.execute("UPDATE changes SET state = 'started', key = ? WHERE id = ?", (key, pending.id))
            self._record(db, "started", pending, by=pending.granted_by)
            return pending

    def by_key(self, caller: Caller, key: str) -> Pending | None:
        """What was begun under a caller's idempotency key."""
        with self._reading() as db:
            row = db.execute(f"SELECT {_FIELDS} FROM changes WHERE caller = ? AND key = ?", (caller.id, key)).fetchone()
            return Pending(*row) if row and key else None

    def _unused(self, db: sqlite3.Connection, caller: Caller, key: str) -> None:
        row = db.execute("SELECT id FROM changes WHERE caller = ? AND key = ?", (caller.id, key)).fetchone()
        if row and key:
            raise Refusal(f"Under this key {row[0]} was begun in the same moment. Ask again what became of it.")

    async def run(self, plan: Plan, taken: Pending, report: Report) -> tuple[str, Seen | None]:
        """Apply under a grant that `take` used up, then verify. The record is written even if the caller goes away."""
        with suppress(Exception):  # progress that nobody hears is no reason to stop
            await report(0.1, "applying")
        task = asyncio.create_task(self._apply(plan, taken))
        _applying[taken.id] = task  # the loop itself keeps only a weak reference
        task.add_done_callback(lambda _: _applying.pop(taken.id, None))
        done, unrecorded = await asyncio.shield(task)
        try:
            seen = await plan.verify(report)
        except Refusal as error:
            seen = Seen(False, f"It was done, but could not be verified: {error}")
        except Exception as error:
            log.exception("verification of %s broke off", taken.id)
            seen = Seen(False, f"It was done, but its verification broke off ({type(error).__name__}).")
        try:
            await asyncio.to_thread(self._finish, taken, "verified" if seen.healthy else "not healthy", seen.text)
        except Refusal as error:
            unrecorded = str(error)
        if unrecorded:
            seen = Seen(False, f"{seen.text} It was done, but that could not be recorded: {unrecorded}")
        return done, seen

    async def settled(self, id: str) -> None:
        """Wait until what this process is carrying out for a change is done, if it is."""
        if (task := _applying.get(id)) is not None:
            await asyncio.wait([task], timeout=60)

    async def _apply(self, plan: Plan, taken: Pending) -> tuple[str, str]:
        """What was done, and why it could not be recorded if so."""
        try:
            done = await plan.apply()
        except BaseException as error:
            reason = str(error) if isinstance(error, Refusal) else f"broke off ({type(error).__name__}), effect unknown"
            with suppress(Refusal):  # the ledger still says `started`: it will not run again
                await asyncio.to_thread(self._finish, taken, "failed", reason)
            raise
        try:
            await asyncio.to_thread(self._finish, taken, "applied", done)
        except Refusal as error:
            return done, str(error)
        return done, ""

    def _finish(self, taken: Pending, event: str, text: str) -> None:
        with self._writing() as db:
            state = "failed" if event == "failed" else "done"
            outcome = audit.clean(f"{event}: {text}")
            db.execute("UPDATE changes SET state = ?, outcome = ? WHERE id = ?", (state, outcome, taken.id))
            self._record(db, event, taken, outcome=text)

    # Reading

    def get(self, id: str) -> Pending:
        with self._reading() as db:
            return self._get(db, id)

    def waiting(self) -> list[Pending]:
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {_FIELDS} FROM changes WHERE state = 'pending' AND expires > ? ORDER BY created LIMIT 500",
                (time.time(),),
            ).fetchall()
        return [Pending(*row) for row in rows]

    def verify_trail(self) -> audit.Verdict:
        with self._writing() as db:  # under the writers' lock, so that no line is half written
            number, last = db.execute("SELECT number, hash FROM head").fetchone()
            return audit.verify(self.trail, (number, last or audit.FIRST))

    # The file

    def _insert(
        self,
        db: sqlite3.Connection,
        change: Change,
        caller: Caller,
        digest: str,
        now: float,
        state: str,
        lasts: float,
        by: str = "",
    ) -> Pending:
        pending = Pending(
            id=f"ch-{_new_id()}",
            digest=digest,
            caller=caller.id,
            client=redact(one_line(caller.client)),
            server=change.server,
            tool=change.tool,
            summary=redact(one_line(change.summary)),
            shown=change.shown(),
            state=state,
            created=now,
            expires=now + lasts,
            granted_by=by,
            granted_at=now if by else 0.0,
        )
        marks = ", ".join("?" * len(Pending.__dataclass_fields__))
        db.execute(f"INSERT INTO changes ({_FIELDS}) VALUES ({marks})", tuple(asdict(pending).values()))
        return pending

    def _get(self, db: sqlite3.Connection, id: str) -> Pending:
        row = db.execute(f"SELECT {_FIELDS} FROM changes WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise Refusal(f"There is no change {plain(id)[:40]!r}. `quarterdeck approve` lists those that wait.")
        return Pending(*row)

    def _expire(self, db: sqlite3.Connection, now: float) -> None:
        late = db.execute(
            f"SELECT {_FIELDS} FROM changes WHERE state IN ('pending', 'granted') AND expires <= ? LIMIT 500", (now,)
        ).fetchall()
        for row in late:
            db.execute("UPDATE changes SET state = 'expired' WHERE id = ?", (row[0],))
            self._record(db, "expired", Pending(*row))
        # The trail keeps the history; the ledger only needs what is recent.
        db.execute("DELETE FROM changes WHERE created < ? AND state NOT IN ('pending', 'granted')", (now - 90 * 86400,))

    def _record(self, db: sqlite3.Connection, event: str, pending: Pending, **facts: Any) -> None:
        audit.append(
            db,
            event,
            change=pending.id,
            digest=pending.digest[:16],
            server=pending.server,
            tool=pending.tool,
            caller=pending.caller,
            client=pending.client,
            summary=pending.summary,
            **(
                {"shown": pending.shown}
                if event in ("requested", "denied") or (event == "granted" and facts["by"].startswith("policy"))
                else {}
            ),
            **facts,
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; what cannot be recorded does not happen."""
        try:
            with self._open() as db:
                db.execute("BEGIN IMMEDIATE")
                try:
                    audit.flush(db, self.trail)
                    yield db
                except Refusal:  # an answer, not a failure: what was noticed on the way stays noticed
                    self._commit(db)
                    raise
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
                self._commit(db)
        except (OSError, sqlite3.Error) as error:
            raise Refusal(
                f"The change ledger in {self.home} cannot be written ({error}); without it nothing is changed. "
                "Free space or mend its permissions, then try again."
            ) from error

    def _commit(self, db: sqlite3.Connection) -> None:
        """The ledger first, then the trail: its file holds nothing that the ledger does not know of."""
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
        audit.flush(db, self.trail)
        db.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._open() as db:
                yield db
        except (OSError, sqlite3.Error) as error:
            raise Refusal(f"The change ledger in {self.home} cannot be read ({error}).") from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlitefile.connect(self.home / "changes.db", BUSY_S)
        try:
            if not self._ready:
                (self.home / "changes.db").chmod(0o600)
                db.executescript(SCHEMA + audit.SCHEMA)
                if "key" not in {row[1] for row in db.execute("PRAGMA table_info(changes)")}:  # made by 0.1
                    with suppress(sqlite3.OperationalError):  # by another process in the same moment
                        db.execute("ALTER TABLE changes ADD COLUMN key TEXT NOT NULL DEFAULT ''")
                db.executescript(KEYS)
                self._ready = True
            db.execute("PRAGMA synchronous = FULL")
            yield db
        finally:
            db.close()


def _new_id() -> str:
    """Eight letters and digits without the ones that are misread; an id names a change, it grants nothing."""
    return "".join(secrets.choice("23456789abcdefghjkmnpqrstuvwxyz") for _ in range(8))


def why_not(pending: Pending) -> str:
    match pending.state:
        case "granted":
            left = say_duration(pending.expires - time.time())
            return f"{pending.id} is already approved by {pending.granted_by}; it can be used for another {left}."
        case "started" | "done" | "failed":
            return (
                f"{pending.id} was already approved and used ({pending.outcome or pending.state}). A grant works once."
            )
        case "declined":
            return f"{pending.id} was declined. Call the tool again to ask anew."
        case "denied":
            return f"{pending.id} is forbidden by policy; approval cannot change that."
        case _:
            return f"{pending.id} has expired. Call the tool again to ask anew."


__all__ = ["Change", "Changes", "Decision", "Denied", "Pending", "Plan", "Report", "Seen", "Target"]
