"""Jobs, their companies, and what was found out about each.

A company has one row from the moment it is submitted, and its result is written into it once: whoever tries again finds
that it is there. The job's counts change in the same transaction, so they never say something else than the rows.
Results that come at the same time share one transaction.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from quarterdeck.agents.companies import names
from quarterdeck.agents.companies.database import Database
from quarterdeck.agents.companies.models import ENDED, Job, Result
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings

MOST_AT_ONCE = 200
"""Results in one transaction."""
RATE_S = 60.0
STILL_S = 20.0
"""Without a word from whoever works on a job; then nobody does."""
LOADING = "loading"

T = TypeVar("T")
_JOB = (
    "INSERT INTO company_jobs (id, caller, label, spec, digest, priority, budget, state, why, round, parent,"
    " total, blank, duplicates, clipped, complete, incomplete, failed, iterations, cost, priced, tokens, created,"
    " started, updated) VALUES (:id, :caller, :label, :spec, '', :priority, :budget, 'loading', '', 1, :parent,"
    " 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, :now, :now, :now) ON CONFLICT (id) DO NOTHING"
)
_RESULT = (
    "UPDATE company_results SET state = :state, data = :data, confidence = :confidence, completeness = :completeness,"
    " iterations = :iterations, sources = :sources, fields = :fields, problem = :problem, cost = :cost,"
    " tokens = :tokens, duration_s = :duration_s, finished = :finished"
    " WHERE job = :job AND n = :n AND tries = :tries AND state = 'waiting'"
)
_COUNTS = (
    "UPDATE company_jobs SET complete = complete + :complete, incomplete = incomplete + :incomplete,"
    " failed = failed + :failed, iterations = iterations + :iterations, cost = cost + :cost,"
    " priced = priced + :priced, tokens = tokens + :tokens, updated = :now WHERE id = :id"
)
_NOTES = (
    "INSERT INTO company_notes (job, n, body) VALUES (:job, :n, :body)"
    " ON CONFLICT (job, n) DO UPDATE SET body = excluded.body"
)


@dataclass(frozen=True)
class Entry:
    """A job as its row says it."""

    job: Job
    spec: dict[str, Any]
    digest: str
    round: int
    parent: str
    loading: bool


@dataclass(frozen=True)
class Waiting:
    n: int
    name: str
    tries: int


class Unfit(Refusal):
    """What was handed over is nothing that any database holds."""


_Waiter = tuple[dict[str, Any], bytes | None, asyncio.Future[bool]]


class Store:
    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="companies-write")
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="companies-read")
        self._queue: list[_Waiter] = []
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.write(self.database.create)

    async def close(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=10)
        for threads in (self._writer, self._readers):
            threads.shutdown(wait=True)
        self.database.close()

    # Jobs

    async def begin(self, id: str, spec: dict[str, Any], **row: Any) -> bool:
        """A new job without companies; False when there is one of this id."""
        values = {"id": id, "spec": json.dumps(spec, ensure_ascii=False), "now": time.time(), **row}

        def do() -> bool:
            with self.database.engine.begin() as db:
                return db.execute(sa.text(_JOB), values).rowcount == 1

        return await self.write(do)

    async def clear(self, id: str) -> None:
        """Take out what an interrupted submission left."""

        def do() -> None:
            with self.database.engine.begin() as db:
                db.execute(sa.text("DELETE FROM company_results WHERE job = :id"), {"id": id})

        await self.write(do)

    async def add(self, id: str, rows: Sequence[tuple[int, str]]) -> int:
        """Companies of a job, by their place in the list; how many of them are new."""
        values = [{"job": id, "n": n, "name": name, "key": names.key(name)} for n, name in rows]

        def do() -> int:
            with self.database.engine.begin() as db:
                put = sa.text(
                    "INSERT INTO company_results (job, n, name, key, tries, state)"
                    " VALUES (:job, :n, :name, :key, 0, 'waiting') ON CONFLICT DO NOTHING"
                )
                new = db.execute(put, values).rowcount if values else 0
                db.execute(sa.text("UPDATE company_jobs SET updated = :now WHERE id = :id"), _at(id))
                return new

        return await self.write(do)

    async def update(self, id: str, where: str = "", **values: Any) -> bool:
        """Set columns of a job's row, if `where` holds."""
        sets = ", ".join(f"{name} = :{name}" for name in values)
        statement = f"UPDATE company_jobs SET {sets}, updated = :now WHERE id = :id{where and f' AND {where}'}"

        def do() -> bool:
            with self.database.engine.begin() as db:
                return db.execute(sa.text(statement), {**values, **_at(id)}).rowcount == 1

        return await self.write(do)

    async def again(self, id: str, **values: Any) -> bool:
        """Take up a job that ended: what failed waits again. False when somebody else has done so already."""
        sets = "".join(f", {name} = :{name}" for name in values)

        def do() -> bool:
            with self.database.engine.begin() as db:
                taken = db.execute(
                    sa.text(
                        "UPDATE company_jobs SET state = 'queued', why = '', round = round + 1,"
                        " priced = priced - (SELECT count(*) FROM company_results WHERE job = :id"
                        " AND state = 'failed' AND cost IS NOT NULL),"
                        f" failed = 0, started = :now, updated = :now{sets} WHERE id = :id"
                        " AND state IN ('completed', 'cancelled', 'stopped', 'failed')"
                    ),
                    {**values, **_at(id)},
                ).rowcount
                if taken:
                    db.execute(
                        sa.text(
                            "UPDATE company_results SET state = 'waiting', tries = tries + 1"
                            " WHERE job = :id AND state = 'failed'"
                        ),
                        {"id": id},
                    )
                return taken == 1

        return await self.write(do)

    async def beat(self, id: str) -> None:
        """Somebody works on this job."""
        await self._beat(id, time.time())

    async def unbeat(self, id: str) -> None:
        """Whoever worked on it does so no more."""
        await self._beat(id, 0.0)

    async def _beat(self, id: str, at: float) -> None:
        put = "INSERT INTO company_beats (job, at) VALUES (:id, :at) ON CONFLICT (job) DO UPDATE SET at = excluded.at"

        def do() -> None:
            with self.database.engine.begin() as db:
                db.execute(sa.text(put), {"id": id, "at": at})

        await self.write(do)

    async def entry(self, id: str) -> Entry | None:
        def do() -> Entry | None:
            with self.database.engine.connect() as db:
                row = db.execute(sa.text("SELECT * FROM company_jobs WHERE id = :id"), {"id": id}).mappings().first()
                return None if row is None else _entry(dict(row), self._lately(db, row), self._standing(db, row))

        return await self.read(do)

    async def entries(self, limit: int, caller: str = "", state: str = "") -> list[Entry]:
        where = [f"{column} = :{column}" for column, value in (("caller", caller), ("state", state)) if value]
        statement = (
            f"SELECT * FROM company_jobs {'WHERE ' + ' AND '.join(where) if where else ''}"
            " ORDER BY created DESC, id LIMIT :limit"
        )

        def do() -> list[Entry]:
            with self.database.engine.connect() as db:
                values = {"caller": caller, "state": state, "limit": limit}
                rows = db.execute(sa.text(statement), {k: v for k, v in values.items() if f":{k}" in statement})
                found = rows.mappings().all()
                return [_entry(dict(row), self._lately(db, row), self._standing(db, row)) for row in found]

        return await self.read(do)

    def _lately(self, db: sa.Connection, row: Any) -> int:
        """Companies that ended in the last minute; of a job that is over and was taken up again: since then."""
        since = time.time() - RATE_S
        if row["state"] in ENDED:
            if row["round"] == 1:
                return int(row["complete"] + row["incomplete"] + row["failed"])
            since = row["started"]
        counted = "SELECT count(*) FROM company_results WHERE job = :id AND state <> 'waiting' AND finished > :since"
        return int(db.execute(sa.text(counted), {"id": row["id"], "since": since}).scalar_one())

    def _standing(self, db: sa.Connection, row: Any) -> dict[str, Any]:
        """What only a job has that is not over: whether somebody works on it, and what waits in batches."""
        if row["state"] in ENDED or row["state"] == LOADING:
            return {}
        told: dict[str, Any] = {}
        if '"cheap"' in row["spec"]:
            counted = (
                "SELECT coalesce(sum(count), 0) AS waiting, coalesce(min(made), 0) AS since FROM company_batches"
                " WHERE job = :id AND state IN ('sending', 'sent', 'off')"
            )
            batches = db.execute(sa.text(counted), {"id": row["id"]}).one()
            told = {"in_batches": int(batches.waiting), "batches_since": float(batches.since)}
        beat = db.execute(sa.text("SELECT at FROM company_beats WHERE job = :id"), {"id": row["id"]}).scalar()
        return {**told, "idle": (row["updated"] if beat is None else beat) < time.time() - STILL_S}

    # Companies

    async def waiting(self, id: str, after: int, limit: int) -> list[Waiting]:
        """Companies that have no result yet, in the order of the list."""
        statement = (
            "SELECT n, name, tries FROM company_results WHERE job = :id AND state = 'waiting' AND n > :after"
            " ORDER BY n LIMIT :limit"
        )

        def do() -> list[Waiting]:
            with self.database.engine.connect() as db:
                rows = db.execute(sa.text(statement), {"id": id, "after": after, "limit": limit})
                return [Waiting(row.n, row.name, row.tries) for row in rows]

        return await self.read(do)

    async def put(self, found: Result, tries: int, notes: dict[str, Any] | None = None) -> bool:
        """Write a result; False when it was there already, or there is no such company."""
        values = {
            "job": found.job, "n": found.n, "tries": tries, "state": found.state, "problem": found.problem,
            "data": _dumps(found.data), "sources": _dumps(found.sources), "fields": _dumps(found.fields),
            "confidence": found.confidence, "completeness": found.completeness, "iterations": found.iterations,
            "cost": found.cost, "tokens": found.tokens, "duration_s": found.duration_s,
            "finished": found.finished or time.time(),
        }  # fmt: skip
        body = None if notes is None else zlib.compress(_dumps(notes).encode(), 6)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.append((values, body, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._commit(), name="results")
        return await done

    async def _commit(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[:MOST_AT_ONCE], self._queue[MOST_AT_ONCE:]
            await self._commit_all(batch)

    async def _commit_all(self, batch: list[_Waiter]) -> None:
        try:
            stored = await self.write(self._put_all, [(values, body) for values, body, _ in batch])
        except Unfit as error:
            if len(batch) > 1:  # the fault of one of them, and no matter of the others
                for one in batch:
                    await self._commit_all([one])
            elif not batch[0][2].done():
                batch[0][2].set_exception(error)
        except Exception as error:
            for _, _, done in batch:
                if not done.done():
                    done.set_exception(error)
        else:
            for (_, _, done), new in zip(batch, stored, strict=True):
                if not done.done():
                    done.set_result(new)

    def _put_all(self, batch: list[tuple[dict[str, Any], bytes | None]]) -> list[bool]:
        stored: list[bool] = []
        counts: dict[str, dict[str, Any]] = {}
        with self.database.engine.begin() as db:
            for values, body in batch:
                new = db.execute(sa.text(_RESULT), values).rowcount == 1
                stored.append(new)
                if not new:
                    continue
                if body is not None:
                    db.execute(sa.text(_NOTES), {"job": values["job"], "n": values["n"], "body": body})
                count = counts.setdefault(values["job"], dict.fromkeys(_COUNTED, 0))
                count[values["state"]] += 1
                count["iterations"] += values["iterations"]
                count["tokens"] += values["tokens"]
                count["cost"] += values["cost"] or 0.0
                count["priced"] += values["cost"] is not None
            for job in sorted(counts):  # in one order, so that two writers never wait for one another
                db.execute(sa.text(_COUNTS), {**counts[job], **_at(job)})
        return stored

    async def results(self, id: str, after: int, limit: int, newest: bool) -> list[Result]:
        order = "finished DESC, n DESC" if newest else "n"
        where = "job = :id AND state <> 'waiting'" + ("" if newest else " AND n > :after")
        values = {"id": id, "limit": limit} | ({} if newest else {"after": after})
        return await self._results(f"WHERE {where} ORDER BY {order} LIMIT :limit", values)

    async def history(self, name: str, limit: int, caller: str = "") -> list[Result]:
        mine = " AND job IN (SELECT id FROM company_jobs WHERE caller = :caller)" if caller else ""
        values = {"key": names.key(names.clean(name)), "limit": limit} | ({"caller": caller} if caller else {})
        where = f"WHERE key = :key AND state <> 'waiting'{mine} ORDER BY finished DESC LIMIT :limit"
        return await self._results(where, values)

    async def _results(self, where: str, values: dict[str, Any]) -> list[Result]:
        def do() -> list[Result]:
            with self.database.engine.connect() as db:
                rows = db.execute(sa.text(f"SELECT * FROM company_results {where}"), values).mappings()
                return [_result(dict(row)) for row in rows]

        return await self.read(do)

    async def state_of(self, id: str, n: int) -> str:
        """How a company stands; empty when there is no such one."""
        statement = "SELECT state FROM company_results WHERE job = :id AND n = :n"

        def do() -> str:
            with self.database.engine.connect() as db:
                return str(db.execute(sa.text(statement), {"id": id, "n": n}).scalar() or "")

        return await self.read(do)

    async def notes(self, id: str, n: int) -> dict[str, Any] | None:
        statement = "SELECT body FROM company_notes WHERE job = :id AND n = :n"

        def do() -> dict[str, Any] | None:
            with self.database.engine.connect() as db:
                body = db.execute(sa.text(statement), {"id": id, "n": n}).scalar()
                return None if body is None else dict(json.loads(zlib.decompress(bytes(body))))

        return await self.read(do)

    # Threads

    async def write(self, do: Callable[..., T], *args: Any) -> T:
        return await self._in(self._writer, do, *args)

    async def read(self, do: Callable[..., T]) -> T:
        return await self._in(self._readers, do)

    async def _in(self, threads: ThreadPoolExecutor, do: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, do, *args)
        except (sa.exc.DataError, OverflowError, UnicodeEncodeError) as error:
            raise Unfit("This cannot be stored: it holds half a character, or a number beyond all bounds.") from error
        except (SQLAlchemyError, OSError) as error:
            raise self.database.unusable(error) from error
        except RuntimeError:
            raise Refusal("The store of results is closed.") from None


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_COUNTED = ("complete", "incomplete", "failed", "iterations", "tokens", "cost", "priced")


def _at(id: str) -> dict[str, Any]:
    return {"id": id, "now": time.time()}


def _dumps(value: Any) -> str:
    """Without NUL, which no reader wants; a page that only writes down its escape keeps it."""
    text = json.dumps(value, ensure_ascii=False)
    return _NUL.sub(r"\1", text) if "\\u0000" in text else text


def _entry(row: dict[str, Any], lately: int, standing: dict[str, Any]) -> Entry:
    done = row["complete"] + row["incomplete"] + row["failed"]
    loading = row["state"] == LOADING
    job = Job(
        id=row["id"], state="queued" if loading else row["state"], why=row["why"], total=row["total"], done=done,
        good=row["complete"], incomplete=row["incomplete"], failed=row["failed"], iterations=row["iterations"],
        cost=row["cost"] if row["priced"] else None, tokens=row["tokens"], created=row["created"],
        updated=row["updated"], priority=row["priority"], label=row["label"], blank=row["blank"],
        duplicates=row["duplicates"], clipped=row["clipped"], by=row["caller"], budget=row["budget"],
        unpriced=done - row["priced"], **standing,
    )  # fmt: skip
    job = replace(job, **_pace(job, row["started"], lately))
    return Entry(job, json.loads(row["spec"]), row["digest"], row["round"], row["parent"], loading)


def _pace(job: Job, started: float, lately: int) -> dict[str, Any]:
    if job.ended:
        return {"rate_per_s": round(lately / max(job.updated - started, 0.001), 3)}
    rate = lately / max(1.0, min(RATE_S, time.time() - started))
    return {"rate_per_s": round(rate, 3), "eta_s": round((job.total - job.done) / rate, 1) if rate else None}


def _result(row: dict[str, Any]) -> Result:
    return Result(
        n=row["n"], company_name=row["name"], state=row["state"], data=json.loads(row["data"] or "{}"),
        confidence=row["confidence"], completeness=row["completeness"], iterations=row["iterations"],
        sources=json.loads(row["sources"] or "[]"), fields=json.loads(row["fields"] or "[]"),
        problem=row["problem"], cost=row["cost"], tokens=row["tokens"], duration_s=row["duration_s"],
        finished=row["finished"], job=row["job"],
    )  # fmt: skip
