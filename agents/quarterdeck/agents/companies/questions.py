"""Questions that go to the model in batches, and the batches, as they stand in the database.

A question is kept before it is sent, and so is the batch it goes into, with a mark that its requests carry: so a batch
whose sender died can be told from others, and none is sent twice.
"""

from __future__ import annotations

import json
import secrets
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from quarterdeck.agents.companies.store import Store

Json = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """`id` is the service's; empty while it is being sent. `off`: we had it cancelled."""

    mark: str
    id: str
    count: int
    made: float
    off: bool = False


@dataclass(frozen=True)
class Told:
    """How a question stands; `left` when nobody works on its job any more."""

    state: str
    answer: Json
    problem: str
    left: bool


@dataclass(frozen=True)
class Settled:
    """What became of one request of a batch. `again`: sending it once more may help, but not more than so often."""

    place: int
    answer: Json | None = None
    problem: str = ""
    again: bool = False


class Questions:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def ask(self, job: str, key: str, request: Json) -> None:
        """Keep a question; one that is there already stays as it is."""
        body = zlib.compress(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace"), 1)
        size = len(json.dumps(request))
        put = (
            "INSERT INTO company_questions (job, key, state, made, size, request, mark, place, sent, answer, problem)"
            " VALUES (:job, :key, 'new', :now, :size, :body, '', 0, 0, '', '') ON CONFLICT (job, key) DO NOTHING"
        )
        await self._do(put, job=job, key=key, now=time.time(), size=size, body=body)

    async def known(self, job: str, key: str) -> bool:
        return bool(
            await self._rows("SELECT 1 FROM company_questions WHERE job = :job AND key = :key", job=job, key=key)
        )

    async def told(self, job: str, key: str) -> Told:
        found = await self._rows(
            "SELECT q.state AS state, answer, problem, j.state AS job_state FROM company_questions q"
            " JOIN company_jobs j ON j.id = q.job WHERE q.job = :job AND q.key = :key",
            job=job, key=key,
        )  # fmt: skip
        if not found:
            return Told("failed", {}, "its question is not kept any more", True)
        row = found[0]
        answer = json.loads(row.answer) if row.answer else {}
        return Told(row.state, answer, row.problem, row.job_state not in ("queued", "running"))

    async def new(self, job: str) -> tuple[int, float, float]:
        """How many are not sent yet, and when the first and the last of them came."""
        row = (
            await self._rows(
                "SELECT count(*) AS count, min(made) AS first, max(made) AS last FROM company_questions"
                " WHERE job = :job AND state = 'new'",
                job=job,
            )
        )[0]
        return int(row.count), float(row.first or 0), float(row.last or 0)

    async def begin(self, job: str, most: int, most_bytes: int) -> tuple[Batch, list[Json]] | None:
        """The next questions as a batch that is about to be sent: kept first. None when there are none."""
        mark = secrets.token_hex(8)

        def do() -> tuple[Batch, list[Json]] | None:
            with self._store.database.engine.begin() as db:
                rows = db.execute(
                    sa.text(
                        "SELECT key, size, request FROM company_questions WHERE job = :job AND state = 'new'"
                        " ORDER BY made, key LIMIT :most"
                    ),
                    {"job": job, "most": most},
                )
                taken: list[Json] = []
                requests: list[Json] = []
                size = 0
                for row in rows:
                    size += row.size + 100
                    if requests and size > most_bytes:
                        break
                    place = len(requests)
                    params = json.loads(zlib.decompress(bytes(row.request)))
                    requests.append({"custom_id": f"{mark}-{place}", "params": params})
                    taken.append({"job": job, "key": row.key, "mark": mark, "place": place})
                rows.close()
                if not taken:
                    return None
                batch = Batch(mark, "", len(taken), time.time())
                db.execute(
                    sa.text(
                        "INSERT INTO company_batches (mark, job, id, count, made, state)"
                        " VALUES (:mark, :job, '', :count, :made, 'sending')"
                    ),
                    {"mark": mark, "job": job, "count": batch.count, "made": batch.made},
                )
                db.execute(
                    sa.text(
                        "UPDATE company_questions SET state = 'asked', mark = :mark, place = :place, sent = sent + 1"
                        " WHERE job = :job AND key = :key"
                    ),
                    taken,
                )
                return batch, requests

        return await self._store.write(do)

    async def sent(self, mark: str, id: str) -> None:
        await self._do("UPDATE company_batches SET id = :id, state = 'sent' WHERE mark = :mark", mark=mark, id=id)

    async def unsent(self, job: str, mark: str) -> None:
        """The service never got this batch: its questions wait again."""
        ask = (
            "UPDATE company_questions SET state = 'new', sent = sent - 1"
            " WHERE job = :job AND mark = :mark AND state = 'asked'"
        )
        await self._do(ask, job=job, mark=mark)
        await self._do("UPDATE company_batches SET state = 'lost' WHERE mark = :mark", mark=mark)

    async def batches(self, job: str) -> list[Batch]:
        """Those that have not ended, the oldest first."""
        rows = await self._rows(
            "SELECT mark, id, count, made, state FROM company_batches WHERE job = :job"
            " AND state IN ('sending', 'sent', 'off') ORDER BY made, mark",
            job=job,
        )
        return [Batch(row.mark, row.id, row.count, row.made, row.state == "off") for row in rows]

    async def off(self, mark: str) -> None:
        await self._do("UPDATE company_batches SET state = 'off' WHERE mark = :mark AND state = 'sent'", mark=mark)

    async def ids(self, since: float) -> set[str]:
        """The service's ids of all batches that are known to be somebody's."""
        rows = await self._rows("SELECT id FROM company_batches WHERE made >= :since AND id <> ''", since=since)
        return {row.id for row in rows}

    async def settle(self, job: str, mark: str, settled: Sequence[Settled], most_sent: int) -> list[str]:
        """Write down what became of requests of a batch; the keys of those that are at their end."""

        def do() -> list[str]:
            ended: list[str] = []
            with self._store.database.engine.begin() as db:
                for one in settled:
                    where = {"job": job, "mark": mark, "place": one.place}
                    row = db.execute(
                        sa.text(
                            "SELECT key, sent FROM company_questions WHERE job = :job AND mark = :mark"
                            " AND place = :place AND state = 'asked'"
                        ),
                        where,
                    ).first()
                    if row is None:
                        continue
                    again = one.again and row.sent < most_sent
                    state = "done" if one.answer is not None else "new" if again else "failed"
                    text = "" if one.answer is None else json.dumps(one.answer)
                    values = {"state": state, "answer": text, "problem": one.problem, "now": time.time()}
                    db.execute(
                        sa.text(
                            "UPDATE company_questions SET state = :state, answer = :answer, problem = :problem,"
                            f"{'' if again else ' request = NULL,'} made = :now"
                            " WHERE job = :job AND mark = :mark AND place = :place"
                        ),
                        {**where, **values},
                    )
                    if not again:
                        ended.append(row.key)
            return ended

        return await self._store.write(do)

    async def unanswered(self, job: str, mark: str) -> list[int]:
        rows = await self._rows(
            "SELECT place FROM company_questions WHERE job = :job AND mark = :mark AND state = 'asked'",
            job=job, mark=mark,
        )  # fmt: skip
        return [row.place for row in rows]

    async def ended(self, mark: str) -> None:
        await self._do("UPDATE company_batches SET state = 'ended' WHERE mark = :mark", mark=mark)

    async def forget(self, job: str) -> None:
        """Of a job that is completed nothing is needed any more."""
        await self._do("DELETE FROM company_questions WHERE job = :job", job=job)
        await self._do("DELETE FROM company_batches WHERE job = :job", job=job)

    async def _do(self, statement: str, **values: Any) -> None:
        def do() -> None:
            with self._store.database.engine.begin() as db:
                db.execute(sa.text(statement), values)

        await self._store.write(do)

    async def _rows(self, statement: str, **values: Any) -> list[Any]:
        def do() -> list[Any]:
            with self._store.database.engine.connect() as db:
                return list(db.execute(sa.text(statement), values))

        return await self._store.read(do)
