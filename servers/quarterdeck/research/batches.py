"""Cheap mode: many extractions through the Message Batches API, at half the price, within hours.

    async for outcome in extract_many(model, items, Path("batch.db")): …

Everything that matters stands in one SQLite file before it happens: the questions before a batch is sent, the batch's
id as soon as it is known. Kill the process anywhere and call again with the same file: nothing is asked twice that was
sent, and nothing is lost. When it died between sending and writing down the id, the batch is found again among the
service's newest by its questions' ids, which carry a mark of this file.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.model import Model, ModelFailed, Usage, failed
from quarterdeck.keel.sqlitefile import connect
from quarterdeck.keel.structured import client, parsed, request
from quarterdeck.research.asking import judge, question
from quarterdeck.research.evidence import Source
from quarterdeck.research.extraction import Extraction
from quarterdeck.research.schema import Shape

MOST_REQUESTS = 100_000
MOST_BYTES = 200_000_000
"""Of one batch; the service takes 256 MB."""
ROUNDS = 3
"""How often one question is sent at most: a batch may expire, a server may fail."""
HALF = 0.5
"""What a batch costs of the usual price."""
POLL_S = 30.0
PATIENCE_S = 26 * 3600.0
"""A batch expires after 24 hours."""

_TABLES = """
CREATE TABLE IF NOT EXISTS mark (value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS item (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, company TEXT NOT NULL, sources TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'new', round INTEGER NOT NULL DEFAULT 0, batch INTEGER, answer TEXT, problem TEXT);
CREATE INDEX IF NOT EXISTS item_state ON item (state);
CREATE INDEX IF NOT EXISTS item_batch ON item (batch);
CREATE TABLE IF NOT EXISTS batch (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL DEFAULT '', count INTEGER NOT NULL, made REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'sending');
"""


@dataclass(frozen=True)
class Item:
    """One company to extract; `id` is the caller's own and comes back with the outcome."""

    id: str
    company: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Outcome:
    id: str
    extraction: Extraction | None
    problem: str
    """Why there is none; empty when there is."""
    usage: Usage


async def extract_many(
    model: Model,
    shape: Shape,
    items: Iterable[Item],
    store: Path,
    *,
    poll_s: float = POLL_S,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[Outcome]:
    """The outcome of each item, in the order of the store, when all batches have ended. The same store goes on."""
    with closing(await asyncio.to_thread(_open, store)) as db:
        await asyncio.to_thread(_keep, db, items)
        run = _Run(model, shape, db, poll_s, time.monotonic() + patience_s)
        await run.through()
        after = -1
        while rows := db.execute(
            "SELECT n, id, company, sources, answer, problem FROM item WHERE n > ? ORDER BY n LIMIT 100", (after,)
        ).fetchall():
            for row in rows:
                after = row[0]
                yield await asyncio.to_thread(run.outcome, row)


def _open(store: Path) -> sqlite3.Connection:
    try:
        db = connect(store, 10.0, check_same_thread=False)
        db.executescript(_TABLES)
        if db.execute("SELECT count(*) FROM mark").fetchone()[0] == 0:
            db.execute("INSERT INTO mark VALUES (?)", (secrets.token_hex(6),))
    except sqlite3.Error as error:
        raise Refusal(f"{store} cannot be used for a batch: {error}. Name another file.") from None
    return db


def _keep(db: sqlite3.Connection, items: Iterable[Item]) -> None:
    """All questions stand in the store before the first is sent; those that are there already stay as they are."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for item in items:
            sources = [[one.url, one.title, one.content, one.published] for one in item.sources]
            db.execute(
                "INSERT OR IGNORE INTO item (id, company, sources) VALUES (?, ?, ?)",
                (item.id, item.company, json.dumps(sources)),
            )
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


class _Run:
    def __init__(self, model: Model, shape: Shape, db: sqlite3.Connection, poll_s: float, until: float) -> None:
        self.model, self.shape, self.db, self.poll_s, self.until = model, shape, db, poll_s, until
        self.mark: str = db.execute("SELECT value FROM mark").fetchone()[0]
        self.usage = Usage(model=model.settings.small)

    async def through(self) -> None:
        """Send what was not sent, wait for what was, until nothing is open."""
        api = await client(self.model.settings)
        while True:
            await self._find_again(api)
            await self._send(api)
            open_batches = self.db.execute("SELECT n, id FROM batch WHERE state = 'sent'").fetchall()
            if not open_batches:
                return
            for number, name in open_batches:
                told = await self._call(api.messages.batches.retrieve(name))
                if told.processing_status == "ended":
                    await self._collect(api, number, name)
            if self.db.execute("SELECT count(*) FROM batch WHERE state = 'sent'").fetchone()[0]:
                if time.monotonic() > self.until:
                    raise Refusal("The batch has not ended in time. Call again later with the same file: it goes on.")
                await asyncio.sleep(self.poll_s)

    async def _find_again(self, api: Any) -> None:
        """A batch that was being sent when the process died: it exists at the service, or it does not."""
        for number, count, made in self.db.execute(
            "SELECT n, count, made FROM batch WHERE state = 'sending'"
        ).fetchall():
            known = {row[0] for row in self.db.execute("SELECT id FROM batch WHERE id != ''")}
            name = await self._named(api, known, number, count, made)
            if name:
                self.db.execute("UPDATE batch SET id = ?, state = 'sent' WHERE n = ?", (name, number))
            else:
                with self.db:
                    self.db.execute("BEGIN")
                    self.db.execute(
                        "UPDATE item SET state = 'new', batch = NULL WHERE batch = ? AND state = 'asked'", (number,)
                    )
                    self.db.execute("UPDATE batch SET state = 'lost' WHERE n = ?", (number,))

    async def _named(self, api: Any, known: set[str], number: int, count: int, made: float) -> str:
        page = await self._call(api.messages.batches.list(limit=100))
        for told in page.data:
            counts = told.request_counts
            total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if told.id in known or total != count or told.created_at.timestamp() < made - 300:
                continue
            # Whose it is can only be read from its results: wait for them rather than pay twice.
            while told.processing_status != "ended":
                if time.monotonic() > self.until:
                    raise Refusal("The batch has not ended in time. Call again later with the same file: it goes on.")
                await asyncio.sleep(self.poll_s)
                told = await self._call(api.messages.batches.retrieve(told.id))
            async for entry in await self._call(api.messages.batches.results(told.id)):
                if entry.custom_id.startswith(f"{self.mark}-{number}-"):
                    return str(told.id)
                break
        return ""

    async def _send(self, api: Any) -> None:
        while True:
            questions, count = await asyncio.to_thread(self._next_batch)
            if not count:
                return
            number = int(self.db.execute("SELECT max(n) FROM batch").fetchone()[0])
            try:
                told = await self._call(api.messages.batches.create(requests=questions))
            except ModelFailed as error:
                if not error.passing:  # it certainly was not taken; what passes may have been, and is looked for
                    self.db.execute("UPDATE item SET state = 'new', batch = NULL WHERE batch = ?", (number,))
                    self.db.execute("DELETE FROM batch WHERE n = ?", (number,))
                raise
            self.db.execute("UPDATE batch SET id = ?, state = 'sent' WHERE n = ?", (told.id, number))

    def _next_batch(self) -> tuple[list[dict[str, Any]], int]:
        """The next questions that fit into one batch, marked in the store as asked before they are."""
        number = int(self.db.execute("SELECT coalesce(max(n), 0) + 1 FROM batch").fetchone()[0])
        questions: list[dict[str, Any]] = []
        taken: list[tuple[int, int]] = []
        size = 0
        for n, company, sources in self.db.execute(
            "SELECT n, company, sources FROM item WHERE state = 'new' ORDER BY n"
        ):
            asked = question(company, self.shape, _sources(sources))
            params = request(self.model.settings, asked.form, asked.prompt)
            weight = len(json.dumps(params)) + 100
            if questions and (len(questions) >= MOST_REQUESTS or size + weight > MOST_BYTES):
                break
            size += weight
            questions.append({"custom_id": f"{self.mark}-{number}-{n}", "params": params})
            taken.append((number, n))
        if not taken:
            return [], 0
        with self.db:
            self.db.execute("BEGIN")
            self.db.execute("INSERT INTO batch (n, count, made) VALUES (?, ?, ?)", (number, len(taken), time.time()))
            self.db.executemany("UPDATE item SET state = 'asked', batch = ?, round = round + 1 WHERE n = ?", taken)
        return questions, len(taken)

    async def _collect(self, api: Any, number: int, name: str) -> None:
        async for entry in await self._call(api.messages.batches.results(name)):
            parts = entry.custom_id.split("-")
            if len(parts) != 3 or parts[0] != self.mark or not parts[2].isdigit():
                continue
            state, answer, problem = _result(entry.result)
            self.db.execute(
                "UPDATE item SET state = CASE WHEN ? = 'again' AND round < ? THEN 'new' WHEN ? = 'again' THEN 'failed' "
                "ELSE ? END, answer = ?, problem = ? WHERE n = ? AND batch = ? AND state = 'asked'",
                (state, ROUNDS, state, state, answer, problem, int(parts[2]), number),
            )
        # What the results do not name was not done: it goes into the next batch.
        with self.db:
            self.db.execute("BEGIN")
            self.db.execute(
                "UPDATE item SET state = CASE WHEN round < ? THEN 'new' ELSE 'failed' END, problem = 'the batch ended "
                "without an answer' WHERE batch = ? AND state = 'asked'",
                (ROUNDS, number),
            )
            self.db.execute("UPDATE batch SET state = 'done' WHERE n = ?", (number,))

    async def _call(self, asked: Any) -> Any:
        try:
            return await asked
        except Exception as error:  # whatever the SDK trips over
            raise failed(error, self.usage, self.model.settings, 0) from error

    def outcome(self, row: Sequence[Any]) -> Outcome:
        _, name, company, sources, answer, problem = row
        usage = Usage(model=self.model.settings.small, calls=1)
        if answer is None:
            return Outcome(name, None, problem or "the batch gave no answer", usage)
        told = json.loads(answer)
        for key, value in told["usage"].items():
            setattr(usage, key, value)
        cost = self.model.cost(usage)
        usage.cost = None if cost is None else round(cost * HALF, 6)
        value, wrong = parsed(told["text"], told["stop"] == "max_tokens")
        if value is None:
            return Outcome(name, None, wrong[0], usage)
        return Outcome(name, judge(value, question(company, self.shape, _sources(sources))), "", usage)


def _sources(stored: str) -> list[Source]:
    return [Source(*one) for one in json.loads(stored)]


def _result(result: Any) -> tuple[str, str | None, str]:
    """(state, answer, problem) of one entry; `again` when sending it once more may help."""
    match result.type:
        case "succeeded":
            usage = Usage()
            usage.count(result.message)
            text = "".join(block.text for block in result.message.content if block.type == "text")
            if result.message.stop_reason == "refusal":
                return "failed", None, "the model declined to answer"
            kept = usage.model_dump(
                include={"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"}
            )
            return "done", json.dumps({"text": text, "stop": result.message.stop_reason, "usage": kept}), ""
        case "errored":
            error = getattr(result.error, "error", result.error)
            said = clip(one_line(str(getattr(error, "message", "") or getattr(error, "type", ""))), 200)
            final = getattr(error, "type", "") in ("invalid_request_error", "not_found_error", "permission_error")
            return ("failed" if final else "again"), None, f"the service refused it: {said}"
    return "again", None, f"the batch's question {result.type}"
