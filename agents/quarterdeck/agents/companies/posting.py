"""Cheap mode: a job's questions go to the model through the Message Batches API, at half the price, within hours.

One post office for a job, in the process that feeds it. It gathers questions for a while, sends them as a batch, looks
after its batches with growing pauses, and writes down what came back. Whoever goes on after a crash finds all of it in
the database; a batch whose sending nobody knows the end of is looked for at the service, among those of its time and
size, by the mark of its requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from quarterdeck.agents.companies.estimate import HALF
from quarterdeck.agents.companies.questions import Batch, Json, Questions, Settled
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowbells import Bells
from quarterdeck.keel.model import Model, ModelFailed, Usage, failed
from quarterdeck.keel.structured import client

MOST_REQUESTS, MOST_BYTES = 500, 20_000_000
"""Of one batch. The service takes 100,000 and 256 MB; what is sent at once is also held in memory at once."""
QUIET_S, GATHER_S = 4.0, 60.0
"""A batch is sent when no question came for so long, and at most so long after its first one."""
LOOK_S = 1.0
FIRST_S, LONGEST_S = 2.0, 60.0
"""Pauses between two looks at a batch."""
LOST_S = 120.0
"""A batch that the service does not show after so long was never taken."""
SENT = 3
"""How often one question is sent at most: a batch may expire, a server may fail."""
HANDING_S = 60.0
DOWN_S = 3600.0
"""How long the service may be away before the job stops."""
SETTLED = 100
"""Results that are written down at once."""
FINAL = ("invalid_request_error", "not_found_error", "permission_error", "authentication_error", "billing_error")
UNKNOWN, TOO_MANY = 404, 429
T = TypeVar("T")
log = logging.getLogger(__name__)


class Unpostable(Refusal):
    """The batches of a job cannot go on until somebody mends something."""


class PostOffice:
    def __init__(self, model: Model, questions: Questions, bells: Bells, job: str) -> None:
        self.model, self.questions, self.bells, self.job = model, questions, bells, job
        self._due: dict[str, tuple[float, float]] = {}
        """Batch → when it is looked at next, and the pause before that."""
        self.sending: asyncio.Task[None] | None = None
        """A batch that is being handed over: whoever ends this office need not lose sight of it."""

    async def run(self) -> None:
        """Until cancelled. Raises Unpostable when the key is refused or the service stays away."""
        api = await client(self.model.settings)
        trouble_since, pause = 0.0, FIRST_S
        while True:
            try:
                for batch in await self.questions.batches(self.job):
                    await self._attend(api, batch)
                await self._send(api)
                trouble_since, pause = 0.0, FIRST_S
                await asyncio.sleep(LOOK_S)
            except ModelFailed as error:
                trouble_since = trouble_since or time.monotonic()
                if not error.passing or time.monotonic() - trouble_since > DOWN_S:
                    raise Unpostable(f"The batches cannot go on: {error}") from None
                log.warning("job %s: the batches wait: %s", self.job, error)
                await asyncio.sleep(max(pause, min(error.after_s or 0.0, LONGEST_S)))
                pause = min(pause * 2, LONGEST_S)

    async def _send(self, api: Any) -> None:
        """What has been gathered; nothing while more may come at once."""
        while True:
            count, first, last = await self.questions.new(self.job)
            now = time.time()
            if not count or (count < MOST_REQUESTS and now - last < QUIET_S and now - first < GATHER_S):
                return
            begun = await self.questions.begin(self.job, MOST_REQUESTS, MOST_BYTES)
            if begun is None:
                return
            self.sending = asyncio.create_task(self._hand_over(api, *begun))
            await asyncio.shield(self.sending)

    async def _hand_over(self, api: Any, batch: Batch, requests: list[Json]) -> None:
        try:
            told = await self._call(api.messages.batches.create(requests=requests))
        except ModelFailed as error:
            # Refused, it certainly was not taken; else it may have been, and is looked for.
            if not error.passing or getattr(error.__cause__, "status_code", None) == TOO_MANY:
                await self.questions.unsent(self.job, batch.mark)
            raise
        await self.questions.sent(batch.mark, str(told.id))

    async def handed_over(self) -> None:
        """Until no batch is on its way to the service, within bounds: one that has no id yet cannot be cancelled."""
        if self.sending is not None:
            await asyncio.wait([self.sending], timeout=HANDING_S)

    async def _attend(self, api: Any, batch: Batch) -> None:
        """See after a batch when it is time to, ever less often until something comes of it."""
        due, pause = self._due.get(batch.mark, (0.0, FIRST_S / 1.5))
        if time.monotonic() < due:
            return
        if await (self._look(api, batch) if batch.id else self._find(api, batch)):
            self._due.pop(batch.mark, None)
        else:
            pause = min(pause * 1.5, LONGEST_S)
            self._due[batch.mark] = time.monotonic() + pause, pause

    async def _look(self, api: Any, batch: Batch) -> bool:
        """Whether it has ended; then its results are written down."""
        told = await self._call(api.messages.batches.retrieve(batch.id))
        if told.processing_status != "ended":
            return False
        await self._collect(api, batch)
        return True

    async def _find(self, api: Any, batch: Batch) -> bool:
        """Whether it is known what became of a batch that was being sent when its sender died."""
        known = await self.questions.ids(batch.made - 600)
        perhaps = False
        async for told in self._each(api.messages.batches.list(limit=100)):
            if told.created_at.timestamp() < batch.made - 300:
                break
            counts = told.request_counts
            count = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if told.id in known or count != batch.count:
                continue
            # Whose it is can only be read from its results: wait for them rather than pay twice.
            if told.processing_status != "ended":
                perhaps = True
            elif await self._marked(api, told.id, batch.mark):
                await self.questions.sent(batch.mark, str(told.id))
                return True
        if not perhaps and time.time() - batch.made > LOST_S:
            await self.questions.unsent(self.job, batch.mark)
            return True
        return False

    async def _marked(self, api: Any, id: str, mark: str) -> bool:
        async for entry in self._each(api.messages.batches.results(id)):
            return str(entry.custom_id).startswith(f"{mark}-")
        return False

    async def _collect(self, api: Any, batch: Batch) -> None:
        settled: list[Settled] = []
        async for entry in self._each(api.messages.batches.results(batch.id)):
            mark, _, place = str(entry.custom_id).rpartition("-")
            if mark != batch.mark or not (place.isascii() and place.isdigit() and len(place) < 10):
                continue
            try:
                settled.append(self._settled(int(place), entry.result, batch))
            except (AttributeError, TypeError, ValueError):  # the SDK reads results trustfully
                settled.append(Settled(int(place), problem="what came for it is no result", again=True))
            if len(settled) >= SETTLED:
                await self._settle(batch, settled)
                settled = []
        await self._settle(batch, settled)
        silent = [
            Settled(place, problem="the batch ended without an answer", again=True)
            for place in await self.questions.unanswered(self.job, batch.mark)
        ]
        await self._settle(batch, silent)
        await self.questions.ended(batch.mark)

    async def _settle(self, batch: Batch, settled: list[Settled]) -> None:
        if settled:
            for key in await self.questions.settle(self.job, batch.mark, settled, SENT):
                self.bells.ring(f"{self.job}/{key}")

    def _settled(self, place: int, result: Any, batch: Batch) -> Settled:
        match result.type:
            case "succeeded":
                return self._answered(place, result.message)
            case "errored":
                error = getattr(result.error, "error", result.error)
                kind = str(getattr(error, "type", ""))
                said = clip(one_line(str(getattr(error, "message", "") or kind)), 200)
                return Settled(place, problem=f"the model's service refused it: {said}", again=kind not in FINAL)
            case "canceled" if not batch.off:
                return Settled(place, problem="somebody cancelled its batch at the model's service")
        return Settled(place, problem=f"its request in a batch {one_line(str(result.type))[:40]}", again=True)

    def _answered(self, place: int, message: Any) -> Settled:
        if message.stop_reason == "refusal":
            return Settled(place, problem="the model declined to answer this")
        usage = Usage(model=self.model.settings.small, calls=1)
        usage.count(message)
        cost = self.model.cost(usage)
        usage.cost = None if cost is None else round(cost * HALF, 8)
        text = "".join(block.text for block in message.content or [] if block.type == "text")
        answer: Json = {"text": text, "cut": message.stop_reason == "max_tokens", "usage": usage.model_dump()}
        return Settled(place, answer)

    async def _each(self, asked: Awaitable[Any]) -> AsyncIterator[Any]:
        try:
            async for entry in await asked:
                yield entry
        except Exception as error:  # whatever the SDK trips over
            raise self._failed(error) from error

    async def _call(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ModelFailed:
        usage, settings = Usage(model=self.model.settings.small), self.model.settings
        if getattr(error, "status_code", None) == UNKNOWN:
            where = settings.base_url or "Anthropic's address"
            return ModelFailed(f"{where} does not know this batch, or no batches at all. Check key and address.", usage)
        return failed(error, usage, settings, 0)


async def cancel(model: Model, questions: Questions, job: str) -> int:
    """Have the service stop what it has of a job; how many batches. What is done by then is paid, and kept there."""
    batches = [batch for batch in await questions.batches(job) if batch.id and not batch.off]
    if not batches:
        return 0
    api = await client(model.settings)
    for batch in batches:
        try:
            await api.messages.batches.cancel(batch.id)
        except Exception as error:  # whatever the SDK trips over
            if getattr(error, "status_code", None) not in (400, 404, 409):  # it has ended already
                told = failed(error, Usage(model=model.settings.small), model.settings, 0)
                raise Refusal(f"Batch {batch.id} could not be cancelled and goes on: {told}") from None
        await questions.off(batch.mark)
    return len(batches)
