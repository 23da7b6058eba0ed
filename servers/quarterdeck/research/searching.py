"""One search: what is kept already, the provider that was asked for, the next one when it fails, or several merged."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from quarterdeck.keel.errors import Denied, Refusal
from quarterdeck.keel.identity import SPEND
from quarterdeck.research.addresses import canonical
from quarterdeck.research.cache import Cache, key_of
from quarterdeck.research.errors import Passing
from quarterdeck.research.providers import Found, Hit, Provider, Question, Unusable

HYBRID = "hybrid"


@dataclass
class Searched:
    hits: list[Hit]
    providers: list[str]
    """Those that the results are of."""
    ages: dict[str, float] = field(default_factory=dict)
    """Provider → seconds since it was asked, where its results were kept."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Provider and what was wrong with it."""
    cost: float | None = 0.0
    notes: list[str] = field(default_factory=list)
    stale_s: float | None = None
    """How old it is, where it only stands in because nobody answered."""

    @property
    def cached(self) -> bool:
        return bool(self.providers) and all(name in self.ages for name in self.providers)


@dataclass
class _Flight:
    """A question on its way, and how many wait for its answer."""

    task: asyncio.Task[tuple[Found, float | None]]
    waiting: int = 0


class Searching:
    def __init__(
        self,
        providers: list[Provider],
        order: Sequence[str],
        cache: Cache,
        ttl_s: float,
        deadline_s: float,
        stale_s: float = 0.0,
    ) -> None:
        """`order` holds those that are asked without being named. What was found is reused for `ttl_s`, and stands in
        for `stale_s` more when nobody answers."""
        self.providers = {provider.name: provider for provider in providers}
        self._asked_in_order = order
        self._cache, self._ttl_s, self._deadline_s, self._stale_s = cache, ttl_s, deadline_s, stale_s
        self._flying: dict[str, _Flight] = {}

    async def search(self, question: Question, wanted: str, *, free_only: bool = False, stale: bool = True) -> Searched:
        """Raises Passing when all failed and one of them may do better soon, else Refusal. `free_only`: the caller may
        cause no costs. `stale`: what was found earlier stands in when all failed."""
        names = self._order(wanted)
        if free_only:
            names = [name for name in names if self.providers[name].free]
            if not names:
                raise Denied(f"Searching here costs money: your token lacks the scope '{SPEND}'.")
        until = time.monotonic() + self._deadline_s
        done = Searched([], [])
        seen: set[str] = set()
        errors: list[Refusal] = []
        for place, name in enumerate(names):
            left = until - time.monotonic()
            if left <= 0.05:
                break
            # The last gets all that is left; one before it must leave the others something.
            share = left if place + 1 == len(names) else left * 0.6
            try:
                found, age = await self._ask(name, question, share)
            except Refusal as error:
                errors.append(error)
                done.problems.append((name, str(error)))
                continue
            done.providers.append(name)
            done.cost = None if done.cost is None or found.cost is None else done.cost + found.cost
            if age is not None:
                done.ages[name] = age
            if found.note:
                done.notes.append(found.note)
            for hit in found.hits:
                if (key := canonical(hit.url)) not in seen and len(done.hits) < question.most:
                    seen.add(key)
                    done.hits.append(hit)
            if wanted != HYBRID or len(done.hits) >= question.most:
                break
        if not done.providers:
            down = not errors or any(isinstance(error, Passing | Unusable) for error in errors)
            if not (stale and down and await self._stale(names, question, done)):
                raise _all_failed(done.problems, errors)
        return done

    async def _stale(self, names: list[str], question: Question, done: Searched) -> bool:
        """What one of them found earlier, if it is kept still."""
        for name in names:
            kept = await self._kept(self._key(name, question)) if self.providers[name].cached else None
            if kept is not None and kept[1] <= self._ttl_s + self._stale_s:
                found, age = kept
                done.hits, done.providers, done.ages, done.stale_s = found.hits, [name], {name: age}, age
                done.notes.append(f"Stale: no provider answered; {name} found this {ago(age)} ago.")
                return True
        return False

    def ready(self) -> list[str]:
        return [name for name in self._asked_in_order if not self.providers[name].why_not()]

    def _order(self, wanted: str) -> list[str]:
        if wanted != HYBRID and wanted not in self.providers:
            raise Refusal(f"There is no provider {wanted[:40]!r}. There are: {', '.join([*self.providers, HYBRID])}.")
        ready = self.ready()
        if not ready and (wanted == HYBRID or self.providers[wanted].why_not()):
            missing = "; ".join(f"{name}: {one.why_not()}" for name, one in self.providers.items())
            raise Refusal(f"No search provider is set up. One is enough: {missing}.")
        # Who was asked for comes first, also when it is not ready: its own error says what is missing.
        return ready if wanted == HYBRID else [wanted, *(name for name in ready if name != wanted)]

    async def _ask(self, name: str, question: Question, share_s: float) -> tuple[Found, float | None]:
        provider = self.providers[name]
        if why := provider.why_not():
            raise Refusal(f"{name} is not set up: {why}.")
        if not provider.cached:
            return await provider.search(question, time.monotonic() + share_s), None
        key = self._key(name, question)
        # Equal questions at the same time are one: it goes on for as long as somebody waits for it, and no longer.
        flight = self._flying.get(key)
        if flight is None:
            flight = self._flying[key] = _Flight(asyncio.create_task(self._fetch(provider, key, question, share_s)))
        flight.waiting += 1
        try:
            async with asyncio.timeout(share_s + 0.5):
                found, age = await asyncio.shield(flight.task)
        except TimeoutError:
            raise Passing(f"{name} did not answer in time.") from None
        finally:
            flight.waiting -= 1
            if not flight.waiting and self._flying.get(key) is flight:
                del self._flying[key]
                flight.task.cancel()
        return Found([replace(hit) for hit in found.hits], found.cost, found.note), age

    @staticmethod
    def _key(name: str, question: Question) -> str:
        return key_of("search", name, " ".join(question.text.lower().split()), question.most)

    async def _kept(self, key: str) -> tuple[Found, float] | None:
        kept = await self._cache.get(key)
        if kept is None:
            return None
        value, age = kept
        try:
            return Found([Hit(**hit) for hit in value["hits"]], 0.0, str(value["note"])), age
        except (TypeError, KeyError):  # written by another version of us
            return None

    async def _fetch(
        self, provider: Provider, key: str, question: Question, share_s: float
    ) -> tuple[Found, float | None]:
        until = time.monotonic() + share_s
        if (kept := await self._kept(key)) is not None and kept[1] <= self._ttl_s:
            return kept
        found = await provider.search(question, until)
        keep_s = self._ttl_s + self._stale_s if self._ttl_s else 0.0
        await self._cache.put(key, {"hits": [asdict(hit) for hit in found.hits], "note": found.note}, keep_s)
        return found, None

    async def close(self) -> None:
        tasks = [flight.task for flight in self._flying.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def ago(seconds: float) -> str:
    """As people say it: 40 s, 7 min, 5 h, 3 days."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _all_failed(problems: list[tuple[str, str]], errors: list[Refusal]) -> Refusal:
    if len(errors) == 1:
        return errors[0]
    said = " ".join(
        problem.partition(": ")[2] if problem.startswith("Try again") else problem for _, problem in problems
    )
    passing = [error for error in errors if isinstance(error, Passing)]
    if passing or not errors:
        waits = [error.after_s for error in passing if error.after_s is not None]
        soon = None if len(waits) < len(passing) or not waits else float(math.ceil(min(waits)))
        return Passing(said or "there was no time left.", soon)
    return Refusal(said)


async def side_by_side(search: Callable[[str], Awaitable[Searched]], queries: list[str]) -> list[Searched | Refusal]:
    async def one(query: str) -> Searched | Refusal:
        try:
            return await search(query)
        except Refusal as error:
            return error

    return list(await asyncio.gather(*(one(query) for query in queries)))
