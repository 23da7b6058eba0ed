"""The load on the system: requests a second over time, and what comes of them."""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

STEADY, SURGE = 80.0, 150.0
KEPT = 1800
"""Seconds of history that are kept."""


@dataclass(frozen=True)
class Second:
    at: float
    """Wall time."""
    requests: float
    failed: float
    response_ms: float


class Traffic:
    """A seeded generator: the same seed gives the same noise. One step is one second of the wall."""

    def __init__(self, seed: int, now: float, *, backfill_s: int = 900) -> None:
        self._dice = random.Random(seed)
        self.level = STEADY
        self.target = STEADY
        self.slowness = 1.0
        self.failing = 0.0
        """Share of requests that fail, from 0 to 1."""
        self.total = 4_000_000.0
        self.failures = 9_000.0
        self.seconds: deque[Second] = deque(maxlen=KEPT)
        for back in range(backfill_s, 0, -1):
            self.step(now - back)

    def step(self, now: float) -> None:
        self.level += (self.target - self.level) * 0.5
        requests = max(0.0, self.level * (1 + self._dice.gauss(0, 0.03)) + 2 * math.sin(now / 40))
        load = self.level / STEADY
        response = (14 + self._dice.gauss(0, 1)) * self.slowness * (1 + max(0.0, load - 1) * 1.5)
        failed = requests * min(1.0, self.failing + 0.002 * abs(self._dice.gauss(0, 1)))
        self.total += requests
        self.failures += failed
        self.seconds.append(Second(now, requests, failed, max(1.0, response)))

    def last(self, seconds: int) -> list[Second]:
        return list(self.seconds)[-seconds:]

    def own_stats(self) -> dict[str, object]:
        """The balancer's entry of /stats: the last ten seconds, and its lifetime."""
        recent = self.last(10)
        rate = sum(s.requests for s in recent) / max(1, len(recent))
        weight = sum(s.requests for s in recent) or 1
        response = sum(s.response_ms * s.requests for s in recent) / weight
        return {
            "total_requests": int(self.total),
            "success_rate": round(100 * (1 - self.failures / self.total), 2),
            "avg_response_time_ms": round(response, 2),
            "avg_response_time_ms_lifetime": 14.3,
            "requests_per_second": round(rate, 1),
            "status": "healthy",
            "has_real_traffic": rate > 1,
        }
