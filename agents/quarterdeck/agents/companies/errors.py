"""Errors of workers, told apart by how they begin: those that say "Try again" pass by themselves."""

from __future__ import annotations

import re

from quarterdeck.keel.errors import Refusal

_AGAIN = re.compile(r"try again(?:\s+in\s+(\d+(?:\.\d+)?)\s*s)?\b", re.IGNORECASE)
_BUSY = re.compile(r"try again[^:]*: this \w+ agent is busy", re.IGNORECASE)
LONGEST_PAUSE_S = 120.0


class Passing(Refusal):
    """Worth trying again, elsewhere or later."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class GivenUp(Refusal):
    """What passes by itself and did not, however often it was tried."""


class Busy(Passing):
    """A worker that has its hands full; it is well."""


class Lost(Passing):
    """The instance could not be reached, or the connection broke: the work may go on there."""


class Stopped(Passing):
    """This very piece of work was begun before, took too long and was cut off: by a coordinator that died since."""


class Faulty(Passing):
    """The instance itself did wrong, not what it works with: an HTTP error, no answer, an answer that is none."""


def refusal(text: str) -> Refusal:
    """A worker's words as the kind of error they are."""
    found = _AGAIN.match(text)
    if found is None:
        return Refusal(text or "The agent failed without saying why.")
    after = min(float(found[1] or 0), LONGEST_PAUSE_S)
    return (Busy if _BUSY.match(text) else Passing)(text, after)
