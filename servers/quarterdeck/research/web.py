"""A search provider on the web: its API asked within its limit, again where that helps, left alone when down."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Iterable

import httpx
from pydantic_core import from_json

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import ResearchSettings
from quarterdeck.research import brave, exa, searxng, tavily
from quarterdeck.research.breaker import Breaker
from quarterdeck.research.errors import Passing
from quarterdeck.research.limits import Busy, Limits, Rate
from quarterdeck.research.providers import Api, Found, Question, Unusable, explained
from quarterdeck.research.transfer import Received, TooLarge, receive, trouble

APIS = {"tavily": tavily.api, "exa": exa.api, "brave": brave.api, "searxng": searxng.api}
DEFAULT_LIMITS = ResearchSettings().limits
TRIES = 3
FIRST_WAIT_S = 0.2
LARGEST = 8 << 20
FEW, MANY = 20, 100
"""Answers that must have come before any is given up earlier than the settings say, and how many are remembered."""
LEAST_PATIENCE_S = 2.0
TOO_MANY_IN_A_ROW = 3
"""Answers of 429 after which everybody waits, and not only who was told so."""
LONGEST_HOLD_S = 3600.0


class Web:
    kind = "web"
    cached = True

    def __init__(self, api: Api, settings: ResearchSettings, limits: Limits, http: Iterable[httpx.AsyncClient]) -> None:
        self.name = api.name
        self.rate = Rate.parse({**DEFAULT_LIMITS, **settings.limits}[api.name])
        self.price = settings.prices.get(api.name)
        self.free = api.name == "searxng" or self.price == 0
        self.breaker = Breaker()
        self._api, self._limits, self._http = api, limits, itertools.cycle(http)
        self._timeout_s = settings.timeout_s
        self._refused_in_a_row = 0
        self._took: deque[float] = deque(maxlen=MANY)

    def why_not(self) -> str:
        return self._api.why_not

    async def search(self, question: Question, until: float) -> Found:
        if not self.breaker.ask(max(1.0, until - time.monotonic())):
            if self.breaker.final:  # who waited and asked again would only hear the same
                raise Unusable(self.breaker.why)
            shut = self.breaker.opens_again_s()
            raise Passing(f"{self.name} is left alone: {self.breaker.why}", max(1.0, round(shut)))
        try:
            found = await self._with_patience(question, until)
        except Unusable as error:
            self.breaker.failed(str(error), final=True)
            raise
        except Busy:
            self.breaker.given_up()
            raise
        except Passing as error:
            self.breaker.failed(_bare(error))
            raise
        except Refusal:  # the question's fault
            self.breaker.went_well()
            raise
        except BaseException:
            self.breaker.given_up()
            raise
        self.breaker.went_well()
        found.hits = found.hits[: question.most]
        if found.cost is None:
            found.cost = self.price
        return found

    async def _with_patience(self, question: Question, until: float) -> Found:
        problem = Passing(f"{self.name} did not answer in time.")
        for attempt in range(TRIES):
            left = until - time.monotonic()
            if left <= 0:
                break
            await self._limits.take(self.name, self.rate, left)
            left = until - time.monotonic()
            try:
                async with asyncio.timeout(min(self._patience_s(), max(0.05, left))):
                    began = time.monotonic()
                    found = await self._once(question)
                    self._took.append(time.monotonic() - began)
                    return found
            except Passing as error:
                problem = error
            except TooLarge as error:
                problem = Passing(f"{self.name}'s answer is not read: {error}.")
                break
            except (httpx.HTTPError, TimeoutError) as error:
                problem = Passing(f"{self.name} {trouble(error)}.")
            except (httpx.InvalidURL, UnicodeError):
                raise Unusable(f"the address of {self.name} in the settings is not one.") from None
            wait = FIRST_WAIT_S * 2**attempt * (1 + random.random())
            wait = wait if problem.after_s is None else max(wait, problem.after_s)
            if attempt + 1 == TRIES or wait > until - time.monotonic():
                break
            await asyncio.sleep(wait)
        raise problem

    def _patience_s(self) -> float:
        """How long one answer is waited for: what takes much longer than nearly all others lately will not come."""
        if len(self._took) < FEW:
            return self._timeout_s
        usual = sorted(self._took)[int(len(self._took) * 0.95)]
        return min(self._timeout_s, max(LEAST_PATIENCE_S, 3 * usual))

    async def _once(self, question: Question) -> Found:
        asked = self._api.ask(question)
        received = await receive(
            next(self._http),
            asked.method,
            asked.url,
            LARGEST,
            headers=asked.headers,
            params=asked.params,
            json=asked.json,
        )
        if received.status != 200:
            await self._too_many(received)
            raise explained(self._api, received, _json(received))
        self._refused_in_a_row = 0
        answer = _json(received)
        if not isinstance(answer, dict):
            raise Passing(f"{self.name} answered with something that is not its JSON.")
        if (spent := self._api.spent(received.headers)) > 1:
            await self._limits.hold(self.name, min(LONGEST_HOLD_S, spent))
        return self._api.read(answer)

    async def _too_many(self, received: Received) -> None:
        """One 429 may be chance or another's doing; several in a row are a limit that everybody has to wait for."""
        if received.status != 429:
            return
        self._refused_in_a_row += 1
        error = explained(self._api, received, _json(received))
        if self._refused_in_a_row >= TOO_MANY_IN_A_ROW and isinstance(error, Passing) and error.after_s:
            await self._limits.hold(self.name, min(LONGEST_HOLD_S, error.after_s))


def _json(received: Received) -> object:
    try:
        answer: object = from_json(received.body)
    except ValueError:
        return None
    return answer


def _bare(error: Passing) -> str:
    """The reason without "Try again", for a sentence that says so itself."""
    return str(error).partition(": ")[2] or str(error)
