"""Errors of a reading, newest first, identical ones as one with its count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from quarterdeck.logs.records import Record
from quarterdeck.logs.templates import shape

HEAD, TAIL = 4, 40
"""Lines of a stack trace by which it is told from others: where it was caught, and where it came from."""


@dataclass
class Fault:
    newest: Record
    count: int = 0
    first: float | None = None
    last: float | None = None
    sources: set[str] = field(default_factory=set)


def faults(records: Iterable[Record]) -> list[Fault]:
    """The kinds of errors among records that come in order of time; the one that came last first."""
    found: dict[str, Fault] = {}
    for record in records:
        if not record.failed:
            continue
        key = _key(record)
        fault = found.pop(key, None) or Fault(record, first=record.time)
        fault.newest = record
        fault.count += 1
        fault.last = record.time
        fault.sources.add(record.source)
        found[key] = fault  # popped and put back: the dictionary's order is that of the last coming
    return list(reversed(found.values()))


def _key(record: Record) -> str:
    lines = record.text.split("\n")[1:]
    if len(lines) > HEAD + TAIL:
        lines = lines[:HEAD] + lines[-TAIL:]
    return "\n".join([shape(record.body), *map(shape, lines)])
