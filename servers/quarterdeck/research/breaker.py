"""A provider that fails again and again is left alone for a while, so that it costs its callers nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 5
"""In a row."""
FIRST_S = 15.0
LONGEST_S = 300.0
FINAL_S = 300.0
"""After a refusal that asking again does not mend, such as a wrong key."""


class Breaker:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._opened = 0
        self._until = 0.0
        self._probing_until = 0.0
        self.why = ""
        self.final = False
        """Whether what it said last is not mended by asking again."""

    def opens_again_s(self) -> float:
        """Seconds until the provider is asked again; 0 while it may be asked."""
        now = self._clock()
        return max(0.0, self._until - now, self._probing_until - now if self._until else 0.0)

    def ask(self, longest_s: float) -> bool:
        """Whether the provider may be asked now. After a rest one caller tries; others see it shut."""
        if self.opens_again_s():
            return False
        if self._until:
            self._probing_until = self._clock() + longest_s
        return True

    def went_well(self) -> None:
        self._failures = self._opened = 0
        self._until = self._probing_until = 0.0
        self.why, self.final = "", False

    def failed(self, why: str, *, final: bool = False) -> None:
        self.why, self.final = why, final
        self._failures += 1
        now = self._clock()
        if final:
            self._until, self._probing_until = now + FINAL_S, 0.0
        elif self._until > now:
            pass  # calls that were under way when it opened
        elif self._failures >= FAILURES:
            self._until, self._probing_until = now + min(LONGEST_S, FIRST_S * 2**self._opened), 0.0
            self._opened = min(self._opened + 1, 10)

    def given_up(self) -> None:
        """The caller who tried has left without an answer: another may."""
        self._probing_until = 0.0
