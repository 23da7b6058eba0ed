"""Who is next: callers wait by job, and jobs take turns by their weight (start-time fair queueing).

Within a job those of a lower rank go first, then those who came first.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from quarterdeck.keel.errors import Refusal

MOST = 20_000
MOST_JOBS = 1_000
T = TypeVar("T")


@dataclass
class _Line(Generic[T]):
    turn: float
    weight: float = 1.0
    waiting: list[tuple[int, int, asyncio.Future[T]]] = field(default_factory=list)


class Queue(Generic[T]):
    def __init__(self) -> None:
        self._lines: dict[str, _Line[T]] = {}
        self._number = self._size = 0
        self._now = 0.0

    def __len__(self) -> int:
        return self._size

    def wait(self, job: str, weight: float, rank: int = 0) -> asyncio.Future[T]:
        """A place among the job's others. It may be given up by cancelling it."""
        if self._size >= MOST:
            raise Refusal(f"Try again in 30 s: {MOST} calls wait here already.")
        if len(self._lines) > MOST_JOBS:
            self._lines = {one: line for one, line in self._lines.items() if line.waiting}
        line = self._lines.setdefault(job, _Line(self._now))
        if not line.waiting:  # whoever comes back has saved up nothing
            line.turn = max(line.turn, self._now)
        line.weight = weight
        self._number += 1
        self._size += 1
        place: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        heapq.heappush(line.waiting, (rank, self._number, place))
        return place

    def pop(self) -> asyncio.Future[T] | None:
        """Whose turn it is."""
        while lines := [line for line in self._lines.values() if line.waiting]:
            line = min(lines, key=lambda one: one.turn)
            _, _, place = heapq.heappop(line.waiting)
            self._size -= 1
            if place.done():
                continue
            self._now = line.turn
            line.turn += 1.0 / line.weight
            return place
        return None
