"""Who is next: callers wait by job, and jobs take turns by their weight (start-time fair queueing)."""

from __future__ import annotations

import asyncio
import heapq
from typing import Generic, TypeVar

from quarterdeck.keel.errors import Refusal

MOST = 20_000
T = TypeVar("T")


class Queue(Generic[T]):
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, asyncio.Future[T]]] = []
        self._number = 0
        self._now = 0.0
        self._next: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def wait(self, job: str, weight: float) -> asyncio.Future[T]:
        """A place behind the job's others. It may be given up by cancelling it."""
        if len(self._heap) >= MOST:
            raise Refusal(f"Try again in 30 s: {MOST} calls wait here already.")
        turn = max(self._now, self._next.get(job, 0.0))
        self._next[job] = turn + 1.0 / weight
        self._number += 1
        place: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (turn, self._number, place))
        return place

    def pop(self) -> asyncio.Future[T] | None:
        """Whose turn it is."""
        while self._heap:
            turn, _, place = heapq.heappop(self._heap)
            if place.done():
                continue
            self._now = turn
            if len(self._next) > 1000:
                self._next = {job: then for job, then in self._next.items() if then > turn}
            return place
        return None
