"""What the flows of this package work with in this process. Flows outlive the process; this does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quarterdeck.agents.companies.objects import Objects
from quarterdeck.agents.companies.questions import Questions
from quarterdeck.agents.companies.store import Entry, Store
from quarterdeck.agents.runtime.toolbox import Toolbox
from quarterdeck.keel.errors import Away, Refusal
from quarterdeck.keel.flowbells import Bells
from quarterdeck.keel.model import Model
from quarterdeck.keel.settings import Settings

if TYPE_CHECKING:
    from quarterdeck.agents.companies.jobs import Jobs
    from quarterdeck.agents.companies.pool import Pool


MOST_SPECS = 1000
AWAY_S = 1.0
"""How often it is looked whether the store is back."""


def weight(priority: int) -> float:
    """One step of priority is twice the share."""
    return float(2.0**priority)


@dataclass
class Bench:
    """What workers need: tools for three of them, the store for the fourth; and how many calls they take at once."""

    tools: Toolbox | None
    store: Store | None
    objects: Objects | None
    at_once: dict[str, int]
    busy: dict[str, int] = field(default_factory=dict)
    seals: dict[str, str] = field(default_factory=dict)

    async def seal(self, job: str) -> str:
        """The key without which no result of a job is stored; it never changes."""
        if job not in self.seals:
            entry = await self.store.entry(job) if self.store is not None else None
            if entry is None:
                return ""
            if len(self.seals) >= MOST_SPECS:
                self.seals.clear()
            self.seals[job] = str(entry.spec.get("seal", ""))
        return self.seals[job]


@dataclass
class Office:
    """What the coordinator needs."""

    settings: Settings
    store: Store
    pools: dict[str, Pool]
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    feeding: dict[str, float] = field(default_factory=dict)
    """Jobs that are fed here, and their weight in the window."""
    over: list[str] = field(default_factory=list)
    """Flows of jobs that ended, to be deleted when the next job begins."""
    answered: Bells = field(default_factory=Bells)
    """Rung when a batch has answered a question."""
    _begun: tuple[Any, Jobs] | None = None

    def __post_init__(self) -> None:
        self.questions, self.model = Questions(self.store), Model.of(self.settings)

    def begin(self, engine: Any, jobs: Jobs) -> None:
        self._begun = engine, jobs

    @property
    def engine(self) -> Any:
        assert self._begun is not None
        return self._begun[0]

    @property
    def jobs(self) -> Jobs:
        assert self._begun is not None
        return self._begun[1]

    async def spec(self, job: str) -> dict[str, Any]:
        """What a job asks for; it never changes, so it is read once."""
        return self.specs.get(job) or self.known(await self.entry(job))

    def known(self, entry: Entry) -> dict[str, Any]:
        if len(self.specs) >= MOST_SPECS:
            self.specs.clear()
        spec = self.specs[entry.job.id] = {**entry.spec, "weight": weight(entry.job.priority)}
        return spec

    async def entry(self, job: str) -> Entry:
        """A flow that begins while the store is away waits for it: it would count as failed otherwise."""
        while True:
            try:
                found = await self.store.entry(job)
            except Away:
                await asyncio.sleep(AWAY_S)
                continue
            if found is None:
                raise Refusal(f"There is no job {job[:60]!r}.")
            return found


_benches: list[Bench] = []
_offices: list[Office] = []


@contextmanager
def working(bench: Bench) -> Iterator[Bench]:
    _benches.append(bench)
    try:
        yield bench
    finally:
        _benches.remove(bench)


@contextmanager
def coordinating(office: Office) -> Iterator[Office]:
    _offices.append(office)
    try:
        yield office
    finally:
        _offices.remove(office)


def bench() -> Bench:
    if not _benches:
        raise RuntimeError("the workers have no tools in this process")
    return _benches[-1]


def office() -> Office:
    if not _offices:
        raise RuntimeError("nothing is coordinated in this process")
    return _offices[-1]
