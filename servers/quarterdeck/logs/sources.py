"""What a source of logs is, and what the tools get from one, whichever it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol, TypeVar

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.redact import redact
from quarterdeck.logs.records import Record
from quarterdeck.logs.search import Pattern, Stop

T = TypeVar("T")


@dataclass(frozen=True)
class Window:
    """From when to when, in seconds since 1970; None leaves that end open."""

    start: float | None = None
    end: float | None = None

    def holds(self, moment: float | None) -> bool:
        if moment is None:
            return True
        return (self.start is None or moment >= self.start) and (self.end is None or moment < self.end)


@dataclass
class Reading:
    """Records of a window, oldest first."""

    records: list[Record] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    """The containers, streams or files that were read."""
    notes: list[str] = field(default_factory=list)
    """What could not be read, and why."""
    more: bool = False
    """Whether older records of the window were left unread."""


@dataclass
class Hit:
    record: Record
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass
class Found:
    """The newest hits of a search, oldest first."""

    hits: list[Hit] = field(default_factory=list)
    matches: int = 0
    """Matching lines."""
    complete: bool = True
    """Whether all lines of the window were looked at: else `matches` is what was counted until then."""
    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """Where logs are read. A service of None means all of them. Raises Refusal for what a caller can mend."""

    async def services(self) -> list[str]: ...

    async def read(self, service: str | None, window: Window, most: int, stop: Stop) -> Reading:
        """The newest `most` records of the window in every part."""
        ...

    async def search(
        self, service: str | None, pattern: Pattern, window: Window, limit: int, context: int, stop: Stop
    ) -> Found:
        """The newest `limit` records with a matching line, with `context` lines around each."""
        ...


async def in_thread(stop: Stop, work: Callable[[], T]) -> T:
    """Run blocking work beside the event loop; a cancelled caller makes the work end too."""
    try:
        return await asyncio.to_thread(work)
    except asyncio.CancelledError:
        stop.cancel()
        raise


def pick(name: str, known: Sequence[str]) -> str:
    """The service that a caller means: a slip in case or between - and _ is forgiven, anything else is asked about."""
    if name in known:
        return name
    same = [service for service in known if _loose(service) == _loose(name)]
    if len(same) == 1:
        return same[0]
    raise unknown(name, known)


def unknown(name: str, known: Sequence[str]) -> Refusal:
    near = get_close_matches(_loose(name), [_loose(service) for service in known], n=3, cutoff=0.5)
    named = [service for service in known if _loose(service) in near][:3]
    if named:
        hint = f"Did you mean {' or '.join(named)}?"
    elif known:
        hint = f"There are: {', '.join(list(known)[:10])}{' …' if len(known) > 10 else ''}."
    else:
        hint = "There are none."
    return Refusal(f"There is no service {name[:60]!r} with logs here. {hint} list_log_services names them all.")


def _loose(name: str) -> str:
    return name.lower().replace("_", "-")


def in_order(groups: Iterable[list[Record]]) -> list[Record]:
    """The records of several parts in order of time. One that carries no time stays after the one before it."""
    everything: list[Record] = []
    for records in groups:
        last = next((record.time for record in records if record.time is not None), None)
        for record in records:
            if record.time is None:
                record.time = last
            last = record.time
        everything.extend(records)
    return sorted(everything, key=lambda record: -1.0 if record.time is None else record.time)


def search_records(records: list[Record], pattern: Pattern, limit: int, context: int) -> tuple[list[Hit], int]:
    """The newest `limit` records of one part that match, with the lines around them, and how many lines matched."""
    hits: list[Hit] = []
    matches = 0
    for index in range(len(records) - 1, -1, -1):
        record = records[index]
        lines = pattern.lines_matching(record.text)
        matches += lines
        if lines and len(hits) < limit:
            hits.append(
                Hit(
                    record,
                    _lines(reversed(records[max(0, index - context) : index]), context, newest=True),
                    _lines(records[index + 1 : index + 1 + context], context),
                )
            )
    return hits[::-1], matches


def _lines(records: Iterable[Record], most: int, newest: bool = False) -> list[str]:
    lines: list[str] = []
    for record in records:
        found = record.text.split("\n")
        lines = [*found, *lines] if newest else [*lines, *found]
        if len(lines) >= most:
            break
    return lines[-most:] if newest and most else lines[:most]


def newest(hits: Iterable[Hit], limit: int) -> list[Hit]:
    """The newest `limit` hits of several parts, oldest first."""
    ordered = sorted(hits, key=lambda hit: -1.0 if hit.record.time is None else hit.record.time)
    return ordered[-limit:]


def outside(text: str, most: int = 200) -> str:
    """A short text from outside for a note or an error: one line, harmless, without secrets."""
    return clip(redact(" ".join(plain(text).split())), most)
