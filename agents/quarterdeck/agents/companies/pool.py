"""The instances of one worker agent: who is well, who has a hand free, and whose turn it is.

    async with Pool("research", instances(…), timeout_s=120) as pool:
        data = await pool.call("job-1", "job-1/17/1/research", {"company_name": "ACME", …})

A call goes to the least loaded instance that is well. What fails in passing is tried elsewhere or later, outside of its
place; what is final is raised at once. A call that hangs is cut off when it takes twice as long as nearly all
others lately, and gets twice as long at its next try. An instance that cannot be reached is left alone until it says
that it is well again, and then given one call first. Limits are those of this process: a worker keeps its own too, and
answers "busy" to what goes beyond, so that several coordinators may share it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from quarterdeck.agents.companies import hop
from quarterdeck.agents.companies.errors import Busy, Faulty, GivenUp, Lost, Passing, Stopped
from quarterdeck.agents.companies.queue import Queue
from quarterdeck.keel.errors import Refusal

TRIES = 8
"""Errors of the passing kind before a call is given up."""
VAIN_S = 10.0
"""Pauses of our own choice that a call makes before it is given up."""
DOWN_S, TOLD_S = 45.0, 600.0
"""A call that is told when to come again is given up after pauses of so long: while nobody gets through, and while
others do. Who comes when nobody got through for so long waits once."""
MOST_LOST = 40
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
PATIENCE_S = 900.0
"""How long a call waits for an instance that can be reached."""
FLOOR_S = 2.0
"""No call is cut off earlier."""
FEW, MANY = 20, 200
"""Calls that must have gone well before any is cut off, and how many are remembered."""
SWEEP_S = 0.25
FAULTS = 5
"""In a row, before an instance is left alone."""
BUSY_S = 0.5
IDLE_S = 5.0

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Instance:
    url: str
    http: httpx.AsyncClient
    at_once: int
    busy: int = 0
    faults: int = 0
    down: bool = False
    trial: bool = False
    """It was down; one call shows whether it is well."""
    full: int = 0
    full_until: float = 0.0
    """It said that it was busy: until then it gets no more calls at once than `full`."""
    heard: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    calls: int = 0

    def room(self, now: float) -> bool:
        most = 1 if self.trial else self.full if now < self.full_until else self.at_once
        return not self.down and self.busy < most


@dataclass(eq=False)
class _Flight:
    """A call in the air, so that it can be cut off."""

    limit: asyncio.Timeout
    began: float
    patience: int


@dataclass
class Pool:
    name: str
    instances: list[Instance]
    timeout_s: float
    floor_s: float = FLOOR_S
    patience_s: float = PATIENCE_S
    vain_s: float = VAIN_S
    calls: int = 0
    again: int = 0
    cut: int = 0
    _vain_since: float = 0.0
    """Since when nobody got through; 0 while somebody does."""
    _queue: Queue[Instance] = field(default_factory=Queue)
    _took: deque[float] = field(default_factory=lambda: deque(maxlen=MANY))
    _air: set[_Flight] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Pool:
        self._loop = asyncio.get_running_loop()
        self._begin(self._sweep())
        self._begin(self._look_after_the_idle())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for http in {id(one.http): one.http for one in self.instances}.values():
            await http.aclose()

    @property
    def waiting(self) -> int:
        """Calls that nobody has taken up yet."""
        return len(self._queue)

    async def call(
        self, job: str, key: str, data: dict[str, Any], weight: float = 1.0, rank: int = 0
    ) -> dict[str, Any]:
        """The agent's answer. `key` and `data` name this piece of work: while it goes on, it is not begun again.
        Of a job's calls those of a lower `rank` go first, and those that were made before in vain."""
        text = json.dumps(data, ensure_ascii=False)
        mark = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
        tries = lost = cuts = full = 0
        vain_s = told_s = 0.0
        calls = self.calls
        last: Instance | None = None
        while True:
            number = tries + cuts + full  # work that failed or hung is begun anew, work whose connection broke is not
            last = await self._turn(job, weight, rank - (1 if number or lost else 0), last)
            try:
                return await self._try(last, f"{key}#{number}-{mark}", text, cuts)
            except Busy:
                full += 1
                last.full, last.full_until = max(0, last.busy - 1), self._loop.time() + BUSY_S
                pause = 0.0
            except Lost as error:
                lost += 1
                if lost >= MOST_LOST:
                    raise GivenUp(f"{error} That was so {lost} times.") from None
                pause = _pause(max(0, lost - 2))
            except (TimeoutError, Stopped):
                cuts += 1
                self.cut += 1
                if cuts >= TRIES:
                    raise GivenUp(f"The {self.name} agents did not answer in time, {cuts} times.") from None
                pause = 0.0
            except Passing as error:
                tries += 1
                self._vain_since = self._vain_since or self._loop.time()
                if error.after_s:
                    down = self.calls == calls and self._loop.time() - self._vain_since >= DOWN_S
                    hopeless = told_s > 0 and (down or told_s >= (DOWN_S if self.calls == calls else TOLD_S))
                else:
                    hopeless = tries >= TRIES or (vain_s >= self.vain_s and not isinstance(error, Faulty))
                if hopeless:
                    raise GivenUp(f"{error} That was so {tries} times.") from None
                pause = max(error.after_s, _pause(tries))
                told_s, vain_s = (told_s + pause, vain_s) if error.after_s else (told_s, vain_s + pause)
            finally:
                self._release(last)
            self.again += 1
            if pause:
                await asyncio.sleep(pause)

    async def _try(self, one: Instance, message_id: str, text: str, cuts: int) -> dict[str, Any]:
        began = self._loop.time()
        limit = asyncio.timeout(self.timeout_s)
        flight = _Flight(limit, began, cuts)
        self._air.add(flight)
        try:
            async with limit:
                found = await hop.send(one.http, one.url, message_id, text)
        except Lost:
            self._leave(one, "cannot be reached")
            raise
        except TimeoutError:
            self._begin(self._stop(one, message_id))
            self._fault(one, "does not answer in time")
            raise
        except Faulty as error:
            self._fault(one, str(error))
            raise
        except Refusal:
            self._well(one)
            raise
        finally:
            self._air.discard(flight)
        self._took.append(self._loop.time() - began)
        self._vain_since = 0.0
        self._well(one)
        one.calls += 1
        self.calls += 1
        return found

    # Places

    async def _turn(self, job: str, weight: float, rank: int, last: Instance | None) -> Instance:
        """An instance with a hand free, when it is this job's turn; another one than last time if there is."""
        if not len(self._queue) and (one := self._free(last)) is not None:
            one.busy += 1
            return one
        place = self._queue.wait(job, weight, rank)
        self._serve()
        try:
            while True:
                done, _ = await asyncio.wait([place], timeout=self.patience_s)
                if done:
                    return place.result()
                if all(one.down for one in self.instances):
                    minutes = (
                        f"{self.patience_s / 60:.0f} minutes" if self.patience_s >= 120 else f"{self.patience_s:g} s"
                    )
                    raise GivenUp(f"No {self.name} agent could be reached for {minutes}. Start one, then go on.")
        except BaseException:
            if not place.cancel() and not place.cancelled():
                self._release(place.result())
            raise

    def _free(self, last: Instance | None = None) -> Instance | None:
        now = self._loop.time()
        free = [one for one in self.instances if one.room(now)]
        if len(free) > 1 and last in free:
            free.remove(last)
        return min(free, key=lambda one: (one.busy / one.at_once, one.calls), default=None)

    def _serve(self) -> None:
        while len(self._queue) and (one := self._free()) is not None:
            place = self._queue.pop()
            if place is None:
                return
            one.busy += 1
            place.set_result(one)

    def _release(self, one: Instance) -> None:
        one.busy -= 1
        self._serve()

    # Health

    def _well(self, one: Instance) -> None:
        one.faults, one.trial, one.pause_s = 0, False, FIRST_PAUSE_S
        one.heard = self._loop.time()

    def _fault(self, one: Instance, why: str) -> None:
        one.faults += 1
        if one.trial or one.faults >= FAULTS:
            self._leave(one, why)

    def _leave(self, one: Instance, why: str) -> None:
        if not one.down:
            log.warning("%s at %s is left alone for now: %s", self.name, one.url, why)
            one.down = True
            self._begin(self._until_well(one))

    async def _until_well(self, one: Instance) -> None:
        while True:
            await asyncio.sleep(one.pause_s * random.uniform(0.8, 1.2))
            one.pause_s = min(one.pause_s * 2, 5.0 if one.faults < FAULTS else LONGEST_PAUSE_S)
            if await hop.well(one.http, one.url):
                one.down, one.trial, one.faults = False, True, 0
                log.warning("%s at %s is back", self.name, one.url)
                self._serve()
                return

    async def _look_after_the_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S)
            now = self._loop.time()
            for one in self.instances if self.calls else ():
                if not one.down and not one.busy and now - one.heard > IDLE_S:
                    one.heard = now
                    if not await hop.well(one.http, one.url):
                        self._leave(one, "says that it is not well")

    # Time

    def cut_off_s(self) -> float:
        """How long a call may take."""
        if len(self._took) < FEW:
            return self.timeout_s
        p95 = sorted(self._took)[int(len(self._took) * 0.95)]
        return min(self.timeout_s, max(2 * p95, self.floor_s))

    async def _sweep(self) -> None:
        due = self._loop.time() + SWEEP_S
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._loop.time()
            late, due = now - due, now + SWEEP_S
            limit = self.cut_off_s()
            for flight in self._air:
                if late > SWEEP_S:  # this process was held up, and they with it
                    flight.began += late
                allowed = min(self.timeout_s, limit * 2**flight.patience)
                if now - flight.began > allowed and not flight.limit.expired():
                    flight.limit.reschedule(now)
            self._serve()  # those who were busy a moment ago

    async def _stop(self, one: Instance, context: str) -> None:
        with suppress(Refusal, TimeoutError):
            async with asyncio.timeout(hop.SLACK_S):
                await hop.stop(one.http, one.url, context)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pause(number: int) -> float:
    """Doubling, with chance in it, so that those who failed together do not come again together."""
    longest: float = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S)
    return longest * random.uniform(0.5, 1.0)
