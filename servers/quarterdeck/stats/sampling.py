"""Reads the source now and then while the server runs, so that there is a before to compare with."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quarterdeck.keel.errors import Refusal
from quarterdeck.stats.sources import Reading, Source
from quarterdeck.stats.trends import Sample, Trend, compare

KEPT_S = 3600.0
BASELINE_S = 600.0
RECENT_S = 15.0
MOST = 20_000


class Sampler:
    """The readings of the last hour. One process, one sampler; nothing is written to disk."""

    def __init__(self, source: Source, every_s: float) -> None:
        self._source = source
        self._every_s = every_s
        self._samples: deque[Sample] = deque(maxlen=min(MOST, int(KEPT_S / every_s) + 1))
        self.problem: str | None = None

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        await asyncio.sleep(min(1.0, self._every_s))  # the client's first questions come before our first sample
        while True:
            started = time.monotonic()
            try:
                self.add(await self._source.read())
                self.problem = None
            except Refusal as error:
                self.problem = str(error)
            except Exception as error:  # a sampler that dies would leave history silently empty
                self.problem = f"sampling failed ({type(error).__name__})"
            await asyncio.sleep(max(0.0, self._every_s - (time.monotonic() - started)))

    def add(self, reading: Reading) -> None:
        offline = tuple(service.name for service in reading.services if service.status == "offline")
        figures = reading.figures
        self._samples.append(Sample(time.time(), figures.requests_per_second, figures.avg_response_time_ms, offline))

    def since(self, seconds: float) -> list[Sample]:
        edge = time.time() - seconds
        return [sample for sample in self._samples if sample.at >= edge]

    def trend(self) -> Trend:
        return compare(list(self._samples), time.time(), BASELINE_S, RECENT_S)

    @property
    def minutes(self) -> float:
        return round((time.time() - self._samples[0].at) / 60, 1) if self._samples else 0.0
