"""A job: a durable flow that starts one flow for each company of the list, a bounded window of them at a time.

What is done stands in the store and nowhere else. So whoever goes on with a job after a crash reads there what is left;
a company whose flow runs already is only waited for. A job is fed by the one process that runs its flow, and its
companies run where they are fed; several coordinators share the work by jobs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from quarterdeck.agents.companies import company
from quarterdeck.agents.companies.errors import GivenUp
from quarterdeck.agents.companies.estimate import IN_BATCHES
from quarterdeck.agents.companies.models import Job, Result
from quarterdeck.agents.companies.outfit import AWAY_S, Office, office
from quarterdeck.agents.companies.posting import PostOffice, Unpostable, cancel
from quarterdeck.agents.companies.store import Entry, Waiting
from quarterdeck.keel import flows
from quarterdeck.keel.answers import clip
from quarterdeck.keel.errors import Away, Refusal
from quarterdeck.keel.flows import FlowFailed

NAME = "companies.job"
LOOK_S = 0.5
ELSEWHERE_S = 2.0
PAGE = 200
FORGOTTEN = 50
"""Flows that ended are deleted so many at a time."""
IN_A_ROW = 50
"""Companies that fail one after another before the job stops: then it is not the companies."""
AT_FIRST, MORE_A_S = 75, 75
"""Companies in work when a job begins, and how many more a second: all at once would hold up the first ones."""
BEAT_S = 5.0
CAREFUL = 10
"""Companies at once while a job with a budget does not know yet what one costs."""
LONG_S = 86_400.0 * 365
TOLD_EVERY_S = 60.0
"""How often it is said that a job waits for its database."""

log = logging.getLogger(__name__)


@flows.flow(NAME)
async def feed(argument: dict[str, Any]) -> dict[str, Any]:
    """`{"job", "round"}`. A store that cannot be reached for a while only delays it."""
    return await flows.step(
        "feed", _feed, argument["job"], argument["round"], waits=True, timeout_s=LONG_S, tries=200, pause_s=2.0,
        retry_refusals=True,
    )  # fmt: skip


async def _feed(id: str, round: int) -> dict[str, Any]:
    """While a database is away nothing is lost but time: what is in work goes on, and is found again."""
    told = -TOLD_EVERY_S
    while True:
        try:
            return await _fed(id, round)
        except Away as error:
            if time.monotonic() - told >= TOLD_EVERY_S:
                told = time.monotonic()
                log.warning("job %s waits: %s", id, error)
            await asyncio.sleep(AWAY_S)


async def _fed(id: str, round: int) -> dict[str, Any]:
    own = office()
    feeder = Feeder(own, id, round)
    try:
        ended = await feeder.run()
        over, own.over = own.over, [flows.flow_id()]
        if over:
            await own.engine.forget(over)
        return ended
    finally:
        own.feeding.pop(feeder.key, None)
        posting = [feeder.post, feeder.posts.sending if feeder.posts else None]
        work: list[asyncio.Task[Any]] = [*feeder.work, *(task for task in posting if task is not None)]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        with suppress(Refusal):
            await own.store.unbeat(id)


@dataclass
class Feeder:
    own: Office
    id: str
    round: int
    work: dict[asyncio.Task[str], Waiting] = field(default_factory=dict)
    page: list[Waiting] = field(default_factory=list)
    after: int = -1
    more: bool = True
    """Whether the list goes on behind this page."""
    failed_in_a_row: int = 0
    began: float = field(default_factory=time.monotonic)
    why: str = ""
    """Why no further company is started."""
    ended: list[str] = field(default_factory=list)
    cheap: bool = False
    posts: PostOffice | None = None
    post: asyncio.Task[None] | None = None
    beat: float = float("-inf")

    @property
    def key(self) -> str:
        """Its place among those who feed: while what was cancelled ends, the job may be taken up anew."""
        return f"{self.id}+{self.round}"

    async def run(self) -> dict[str, Any]:
        store = self.own.store
        entry: Entry | None = await self.own.entry(self.id)
        assert entry is not None
        spec = self.own.known(entry)
        self.own.feeding[self.key], self.cheap = spec["weight"], bool(spec.get("cheap"))
        await store.update(self.id, "state = 'queued' AND round = :round", state="running", round=self.round)
        self.why = await self._unanswerable(entry)
        if self.cheap and self.own.model is None:
            self.why = "cheap mode needs a model's key here: set QUARTERDECK_MODEL_API_KEY, then submit it again"
        elif self.cheap and self.own.model is not None:
            self.posts = PostOffice(self.own.model, self.own.questions, self.own.answered, self.id)
            self.post = asyncio.create_task(self.posts.run(), name=f"batches of {self.id}")
        looked, room, budget = 0.0, 0, False
        while True:
            if budget or time.monotonic() - looked >= LOOK_S:
                if looked or time.monotonic() - self.began >= LOOK_S:
                    entry = await store.entry(self.id)
                looked = time.monotonic()
                if entry is None or entry.job.ended or entry.round != self.round:
                    break  # cancelled, or taken up anew; whoever is in work ends by itself
                if entry.parent and await self._gone(entry.parent):
                    await self._end("cancelled", "its task was cancelled")
                    break
                if self.post is not None and self.post.done():
                    try:
                        self.post.result()
                    except Unpostable as error:
                        await self._end("stopped", clip(str(error), 500))
                        break
                if looked - self.beat >= BEAT_S:
                    self.beat = looked
                    await store.beat(self.id)
                room, budget = self._room(entry.job), entry.job.budget is not None
            # Each failure in a row takes a place: when it is not the companies, few more are begun.
            free = max(1, room - self.failed_in_a_row) if room else 0
            while not self.why and len(self.work) < free and (item := await self._next()) is not None:
                self.work[asyncio.create_task(self._one(item))] = item
            if not self.work and (self.why or not (self.page or self.more)):
                await self._end("stopped" if self.why else "completed", self.why)
                break
            if not self.work:
                await asyncio.sleep(LOOK_S / 10)
                continue
            done, _ = await asyncio.wait(self.work, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._seen(task, self.work.pop(task))
            if len(self.ended) >= FORGOTTEN:
                await self._forget()
        if self.cheap:
            await self._close_post()
        if self.work:  # those in flight end; their flows are theirs
            done, _ = await asyncio.wait(self.work, timeout=None)
            for task in done:
                self._seen(task, self.work.pop(task))
        await self._forget()
        return {"job": self.id, "why": self.why}

    async def _close_post(self) -> None:
        """The job is over here: who waits for a batch waits no more, and what nobody wants is not paid for."""
        if self.post is not None:
            self.post.cancel()
        entry = await self.own.store.entry(self.id)
        if entry is not None and entry.round == self.round:
            if entry.job.state == "completed":
                await self.own.questions.forget(self.id)
            if entry.job.state == "cancelled" and self.own.model is not None:
                if self.posts is not None:
                    await self.posts.handed_over()
                try:
                    await cancel(self.own.model, self.own.questions, self.id)
                except Refusal as error:
                    log.warning("job %s: %s", self.id, error)
        self.own.answered.ring_all()

    async def _over(self) -> bool:
        entry = await self.own.store.entry(self.id)
        return entry is None or entry.job.ended or entry.round != self.round

    async def _unanswerable(self, entry: Entry) -> str:
        """Why nobody can answer what this job asks for: heard from a judge before any search is paid for."""
        if entry.job.done or entry.job.total < 2:
            return ""
        asked = {"company_name": "Example", "extraction_schema": entry.spec["schema"], "extracted_data": {}}
        try:
            await self.own.pools["reflection"].call(self.id, f"{self.key}/schema", {**asked, "mode": "rules"})
        except GivenUp:
            return ""
        except Refusal as error:
            return clip(str(error), 500)
        return ""

    async def _next(self) -> Waiting | None:
        if not self.page and self.more:
            self.page = (await self.own.store.waiting(self.id, self.after, PAGE))[::-1]
            self.more = len(self.page) == PAGE
        if not self.page:
            return None
        item = self.page.pop()
        self.after = item.n
        return item

    def _room(self, job: Job) -> int:
        """This job's share of the window; less when the budget is nearly used up."""
        weights = self.own.feeding
        window = IN_BATCHES if self.cheap else self.own.settings.companies.window
        room = max(2, int(window * weights[self.key] / sum(weights.values())))
        room = min(room, AT_FIRST + int(MORE_A_S * (time.monotonic() - self.began)))
        if job.budget is None:
            return room
        # What failed early cost little, and what has no price cost something: neither makes the others cheaper.
        spent, found = job.cost or 0.0, job.good + job.incomplete
        priced = found - job.unpriced
        if spent >= job.budget:
            self.why = f"the budget of {job.budget:g} USD is used up ({spent:.4g} USD)"
            return 0
        if priced <= 0:
            if found >= CAREFUL:
                self.why = (
                    f"a budget of {job.budget:g} USD cannot be kept where no price is known: set [research.prices] and "
                    "[model.prices], or submit it without a budget"
                )
                return 0
            return min(room, CAREFUL)
        mean = spent / priced
        spent += mean * job.unpriced
        if spent >= job.budget:
            self.why = f"the budget of {job.budget:g} USD is used up (about {spent:.4g} USD, some prices are not known)"
            return 0
        affordable = int((job.budget - spent) / mean) if mean > 0 else room
        if affordable < 1 and not self.work:
            self.why = f"the budget of {job.budget:g} USD leaves too little for another company ({spent:.4g} USD spent)"
        return min(room, affordable)

    async def _one(self, item: Waiting) -> str:
        """Have a company done, here or where its flow already runs. How it ended."""
        id = f"{self.id}/{item.n}" + (f".{item.tries}" if item.tries else "")
        # What was in work when the job was cancelled may have ended since the list was read, and its flow be forgotten.
        if self.round > 1 and (state := await self.own.store.state_of(self.id, item.n)) != "waiting":
            return "" if state != "failed" else state
        argument = {"job": self.id, "n": item.n, "name": item.name, "tries": item.tries}
        await self.own.engine.start(company.NAME, argument, id=id)
        try:
            try:
                result = await self._result(id)
            except FlowFailed as error:
                if str(error).startswith(company.LEFT) and await self._over():
                    return ""
                await self.own.engine.resume(id)  # it broke off, now or long ago: from its last finished step
                result = await self._result(id)
        except FlowFailed as error:
            if str(error).startswith(company.UNSTORED):
                raise
            if str(error).startswith(company.LEFT):
                return ""
            problem = clip(f"The work on it broke off: {error}", 1000)
            failed = Result(item.n, item.name, "failed", problem=problem, finished=time.time(), job=self.id)
            await self.own.store.put(failed, item.tries)
            result = {"state": "failed", "problem": problem}
        except Refusal:
            state = await self.own.store.state_of(self.id, item.n)
            if state == "waiting":
                raise
            result = {"state": state, "problem": ""}
        self.ended.append(id)
        return str(result["problem"]) or "failed" if result["state"] == "failed" else ""

    async def _result(self, id: str) -> dict[str, Any]:
        engine = self.own.engine
        while id not in engine.running:  # another coordinator took it over, or it has ended
            flow = await engine.status(id)
            if flow.ended:
                break
            await asyncio.sleep(ELSEWHERE_S)
        return dict(await engine.result(id, timeout_s=LONG_S))

    def _seen(self, task: asyncio.Task[str], item: Waiting) -> None:
        try:
            problem = task.result()
        except Away:
            raise
        except (Refusal, TimeoutError) as error:
            self.why = self.why or clip(str(error), 500)
            log.warning("job %s stops at company %d: %s", self.id, item.n, error)
            return
        self.failed_in_a_row = self.failed_in_a_row + 1 if problem else 0
        if self.failed_in_a_row >= IN_A_ROW and not self.why:
            self.why = f"{IN_A_ROW} companies failed one after another, the last with: {clip(problem, 400)}"

    async def _gone(self, parent: str) -> bool:
        with suppress(Refusal):
            return bool((await self.own.engine.status(parent)).state == "cancelled")
        return False

    async def _end(self, state: str, why: str) -> None:
        await self.own.store.update(
            self.id, "round = :round AND state IN ('queued', 'running')", state=state, why=why, round=self.round
        )
        self.own.jobs.bells.ring(self.id)

    async def _forget(self) -> None:
        ended, self.ended = self.ended, []
        if ended:
            await self.own.engine.forget(ended)
