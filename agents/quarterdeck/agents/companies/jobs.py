"""The face of company research: submit a job, see how it stands, read what came out, cancel it.

async with companies(settings) as jobs:                       # deck.crew: runs jobs in this process
    job = await jobs.submit(names, schema, id="q3", by=caller)    # the same id again goes on with that job
    async for job in jobs.watch("q3"):                            # until it ends
        print(job.done, job.total, job.rate_per_s, job.eta_s)
    page = await jobs.results("q3", after=-1, limit=500)          # in the order of the list

async with looking(settings) as jobs:                         # sees and cancels what other processes run
    print(await jobs.list())
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

from quarterdeck.agents.companies import feeding, names, posting
from quarterdeck.agents.companies.models import Job, Result
from quarterdeck.agents.companies.questions import Questions
from quarterdeck.agents.companies.store import Entry, Store
from quarterdeck.keel.answers import plain
from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.flowbells import Bells, rung
from quarterdeck.keel.flows import FlowTaken
from quarterdeck.keel.identity import APPROVE, SPEND, Caller
from quarterdeck.keel.model import Model
from quarterdeck.keel.settings import Settings

Mode = Literal["auto", "rules", "model"]
PAGE = 500
"""Results that one call returns at most."""
BATCH = 1000
"""Companies that are stored at once."""
LARGEST_SCHEMA = 100_000
NO_MODEL = "Cheap mode reads with a model: set ANTHROPIC_API_KEY where the coordinator runs, or leave it out."
WHO_MAY = "`quarterdeck token NAME --spend` makes one that has it."
LOADING_S = 30.0
"""A submission that has stored nothing for so long was interrupted."""
MOST_PRIORITY = 4
log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Jobs:
    def __init__(self, store: Store, engine: Any = None, model: Model | None = None) -> None:
        self._store, self._engine, self._model = store, engine, model
        self.bells = Bells()
        """Rung when a job ends that is fed in this process."""
        self._submitting: dict[str, asyncio.Lock] = {}

    async def submit(
        self,
        companies: AsyncIterable[str] | Iterable[str],
        schema: dict[str, Any],
        *,
        by: Caller,
        id: str = "",
        label: str = "",
        max_iterations: int = 2,
        max_queries: int = 3,
        provider: str = "",
        mode: Mode = "auto",
        priority: int = 0,
        budget: float | None = None,
        cheap: bool = False,
        parent: str = "",
    ) -> Job:
        """Store the list, bounded memory whatever its length, and start the job.

        The same id again continues that job: one that runs goes on, one that was stopped or cancelled is taken up
        where it was (with the new budget), and what failed is tried again. Another list or schema under a known id
        is refused. Names are trimmed; blank ones are skipped and counted, those that come again are done once.
        `priority`: each step up doubles its share. `budget`: US dollars. `cheap`: the model reads in batches, at half
        the price and within hours. `parent`: a flow that it ends with."""
        if self._engine is None:
            raise Refusal("Jobs are only looked at here. Submit where agents run, e.g. `quarterdeck companies run`.")
        if SPEND not in by.scopes:
            raise Denied(f"{by.id} may not start research: its token lacks the scope '{SPEND}'. {WHO_MAY}")
        id = id or f"job-{secrets.token_hex(6)}"
        if not _ID.fullmatch(id):
            raise Refusal(f"{plain(id)[:40]!r} cannot be a job's id: up to 64 letters, digits and ._- please.")
        # A large schema takes a second to check, and others are served meanwhile.
        spec = await asyncio.to_thread(checked_spec, schema, max_iterations, max_queries, provider, mode, cheap)
        if cheap and self._model is None:
            raise Refusal(NO_MODEL)
        if not -MOST_PRIORITY <= priority <= MOST_PRIORITY:
            raise Refusal(f"`priority` is a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}.")
        if budget is not None and not 0 < budget < 1e9:
            raise Refusal("`budget` is a number of US dollars above 0.")
        row = {"label": plain(label)[:200], "priority": priority, "budget": budget}
        if len(self._submitting) > PAGE:
            self._submitting = {one: lock for one, lock in self._submitting.items() if lock.locked()}
        async with self._submitting.setdefault(id, asyncio.Lock()):
            entry = await self._load(id, companies, spec, by, {**row, "parent": parent})
            if entry.job.ended and (entry.job.done < entry.job.total or entry.job.failed):
                await self._store.again(id, **row, parent=parent)
                entry = await self._entry(id)
        await self._run(entry)
        return replace(entry.job, idle=False)

    async def _load(
        self,
        id: str,
        companies: AsyncIterable[str] | Iterable[str],
        spec: dict[str, Any],
        by: Caller,
        row: dict[str, Any],
    ) -> Entry:
        """The job with all its companies: stored now, or found to be the same."""
        known = await self._store.entry(id)
        if known is not None and known.job.by != by.id:
            raise Refusal(f"The job id {id!r} is taken. Choose another one.")
        if known is not None and known.loading:
            if time.time() - known.job.updated < LOADING_S:
                raise Refusal(f"Try again in {LOADING_S:g} s: job {id} is being stored by another process.")
            await self._store.clear(id)
        elif known is None:
            # Who stores results shows this key, so that no other caller of the storage worker writes into the job.
            await self._store.begin(id, {**spec, "seal": secrets.token_hex(16)}, caller=by.id, **row)
        new = known is None or known.loading
        read = _Reading(spec)
        async for batch in read.batches(companies):
            if new:
                read.kept += await self._store.add(id, batch)
            else:
                await asyncio.sleep(0)
        if not new:
            assert known is not None
            if read.digest() != known.digest:
                raise Refusal(
                    f"There is already a job {id!r} with another list, schema or way of working. Choose another id."
                )
            return known
        if not read.kept:
            await self._store.update(id, state="failed", why="the list holds no company names", digest=read.digest())
            raise Refusal("There are no company names in this list.")
        counts = {"total": read.kept, "blank": read.blank, "duplicates": read.named - read.kept}
        await self._store.update(
            id, "state = 'loading'", state="queued", digest=read.digest(), clipped=read.clipped, **counts
        )
        return await self._entry(id)

    async def _run(self, entry: Entry) -> None:
        """See that the job's flow goes on; one that does is left alone."""
        if entry.job.ended or entry.loading:
            return
        argument = {"job": entry.job.id, "round": entry.round}
        if entry.job.idle:
            await self._store.beat(entry.job.id)
        try:
            id = await self._engine.start(feeding.NAME, argument, id=_flow(entry))
        except FlowTaken as error:
            await self._store.update(entry.job.id, "state = 'queued'", state="failed", why=f"{error} Choose another id")
            raise
        if id in self._engine.running:
            return
        if (await self._engine.status(id)).state in ("failed", "cancelled"):
            await self._engine.resume(id)

    async def pick_up(self) -> None:
        """Go on with jobs that have no flow, such as when a crash came between storing and starting."""
        for state in ("queued", "running"):
            for entry in await self._store.entries(PAGE, state=state):
                try:
                    await self._run(entry)
                except Refusal as error:  # no matter of the other jobs
                    log.warning("job %s does not go on: %s", entry.job.id, error)

    async def status(self, id: str, *, by: Caller | None = None) -> Job:
        """Raises Refusal ("There is no job …") also for a job that is not `by`'s, unless `by` may approve."""
        return (await self._entry(id, by)).job

    async def _entry(self, id: str, by: Caller | None = None) -> Entry:
        entry = await self._store.entry(id) if _ID.fullmatch(id) else None
        if entry is None or (by is not None and APPROVE not in by.scopes and entry.job.by != by.id):
            raise Refusal(
                f"There is no job {plain(id)[:64]!r}. `quarterdeck companies list`, or GET /jobs, shows those for you."
            )
        return entry

    async def schema(self, id: str, *, by: Caller | None = None) -> dict[str, Any]:
        """What the job asks for: the columns of its table."""
        found: dict[str, Any] = (await self._entry(id, by)).spec["schema"]
        return found

    async def list(self, limit: int = 50, *, by: Caller | None = None) -> builtins.list[Job]:
        """Newest first."""
        mine = by.id if by is not None and APPROVE not in by.scopes else ""
        return [entry.job for entry in await self._store.entries(max(1, min(limit, PAGE)), mine)]

    async def cancel(self, id: str, *, by: Caller | None = None) -> Job:
        """Start no further company, whoever runs the job; those in flight end, and their results are kept. Batches are
        cancelled; what they have done by then is used when the job is taken up again."""
        entry = await self._entry(id, by)
        if by is not None and SPEND not in by.scopes:
            raise Denied(f"{by.id} may not cancel: its token lacks the scope '{SPEND}'. {WHO_MAY}")
        await self._store.update(id, "state IN ('loading', 'queued', 'running')", state="cancelled", why="")
        questions = Questions(self._store)
        if self._model is not None:
            await posting.cancel(self._model, questions, id)
        elif entry.job.idle and await questions.batches(id):
            raise Refusal(f"Job {id} is cancelled, but its batches go on: set ANTHROPIC_API_KEY and cancel it again.")
        return await self.status(id)

    async def results(
        self, id: str, after: int = -1, limit: int = PAGE, *, newest: bool = False, by: Caller | None = None
    ) -> builtins.list[Result]:
        """Finished companies with n > `after`, by n; `newest`: the latest finished ones first. At most PAGE."""
        await self._entry(id, by)
        return await self._store.results(id, after, max(1, min(limit, PAGE)), newest)

    async def watch(self, id: str, *, every_s: float = 1.0, by: Caller | None = None) -> AsyncIterator[Job]:
        """How the job stands, whenever that changed (looked at every `every_s`), until it has ended."""
        last: Job | None = None
        with self.bells.hung(id) as bell:
            while True:
                bell.clear()
                job = await self.status(id, by=by)
                if last is None or _gist(job) != _gist(last):
                    yield job
                    last = job
                if job.ended:
                    return
                await rung(bell, every_s)

    async def history(self, company_name: str, limit: int = 20, *, by: Caller | None = None) -> builtins.list[Result]:
        """What was found out about one company over time, in any job; newest first. `Result.job` says which."""
        mine = by.id if by is not None and APPROVE not in by.scopes else ""
        return await self._store.history(company_name, max(1, min(limit, PAGE)), mine)


@asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[Jobs]:
    """Jobs as other processes run them: to look at and to cancel."""
    store = Store(settings)
    try:
        await store.open()
        yield Jobs(store, model=Model.of(settings))
    finally:
        await store.close()


class _Reading:
    """A list of names, read once in batches."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.blank = self.clipped = self.named = self.kept = 0
        self._digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())

    async def batches(self, companies: AsyncIterable[str] | Iterable[str]) -> AsyncIterator[list[tuple[int, str]]]:
        batch: list[tuple[int, str]] = []
        n = -1
        async for given in _each(companies):
            n += 1
            name = names.clean(given)
            self._digest.update(f"{name}\n".encode())
            if not name:
                self.blank += 1
                continue
            self.named += 1
            if len(name) > names.LONGEST:
                self.clipped += 1
                name = name[: names.LONGEST].rstrip()
            batch.append((n, name))
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def digest(self) -> str:
        return self._digest.hexdigest()


async def _each(companies: AsyncIterable[str] | Iterable[str]) -> AsyncIterator[str]:
    if isinstance(companies, AsyncIterable):
        async for name in companies:
            yield name
    else:
        for name in companies:
            yield name


def checked_spec(
    schema: Any, max_iterations: int, max_queries: int, provider: str, mode: str, cheap: bool = False
) -> dict[str, Any]:
    from jsonschema import Draft202012Validator, SchemaError  # 60 ms that most commands do not need

    if not isinstance(schema, dict) or not schema.get("properties"):
        raise Refusal(
            'The schema must be a JSON schema of an object, like {"properties": {"ceo": {"type": "string"}}}.'
        )
    try:
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)
        text.encode()
        if len(text) > LARGEST_SCHEMA:
            raise Refusal(f"The schema is larger than {LARGEST_SCHEMA // 1000} kB. Ask for less at once.")
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(str(part) for part in error.absolute_path)[:80] or "its top"
        raise Refusal(f"That is no valid JSON schema, at {where}: {plain(error.message)[:200]}.") from None
    except (TypeError, ValueError, RecursionError):
        raise Refusal("The schema must be plain JSON without circles. Check it and send it again.") from None
    if not 1 <= max_iterations <= 5:
        raise Refusal("`max_iterations` is a whole number from 1 to 5.")
    if not 1 <= max_queries <= 10:
        raise Refusal("`max_queries` is a whole number from 1 to 10.")
    if mode not in ("auto", "rules", "model"):
        raise Refusal("`mode` is auto, rules or model.")
    if len(provider) > 60 or not provider.isprintable():
        raise Refusal("`provider` is the name of a search provider; leave it empty for the usual ones.")
    if cheap and mode == "rules":
        raise Refusal("Rules cost nothing: leave out the cheap mode, or the mode rules.")
    spec = {
        "schema": schema, "max_iterations": max_iterations, "max_queries": max_queries, "provider": provider,
        "mode": mode,
    }  # fmt: skip
    return {**spec, "cheap": True} if cheap else spec  # jobs from before it was there keep their digest


def _flow(entry: Entry) -> str:
    return entry.job.id if entry.round == 1 else f"{entry.job.id}+{entry.round}"


def _gist(job: Job) -> Job:
    """Without what changes by itself as time goes by."""
    return replace(job, rate_per_s=0.0, eta_s=None, updated=0.0)
