"""Log records as text that may be shown: short, redacted, harmless."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from quarterdeck.keel.answers import plain
from quarterdeck.keel.redact import MARK, redact
from quarterdeck.logs.records import Record
from quarterdeck.logs.sources import Hit

LONGEST_ROW = 2_000
LONGEST_TRACE = 5_000

# Lines of a private key whose first line is out of sight.
_KEY_LINE = re.compile(r"^[A-Za-z0-9+/]{60,}={0,2}$", re.MULTILINE)


def safe(text: str, most: int = LONGEST_ROW) -> str:
    """Outside text without secrets and without characters that hide something, cut in its middle to `most` bytes."""
    text = _KEY_LINE.sub(MARK, redact(plain(text)))
    size = len(text.encode())
    if size <= most:
        return text
    share = most / size
    head, tail = int(len(text) * share * 0.55), int(len(text) * share * 0.35)
    return f"{text[:head]}\n… {size - len((text[:head] + text[-tail:]).encode())} bytes left out …\n{text[-tail:]}"


def stamp(moment: float | None, day: bool = True) -> str:
    """A time in UTC, to the millisecond."""
    if moment is None:
        return "(no time)"
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return text if day else text[11:-1]


def exact(moment: float) -> str:
    """A time that means the same when a caller sends it back."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Rows:
    """Says records as rows that repeat neither the day nor the source where all share it."""

    def __init__(self, records: Sequence[Record]) -> None:
        moments = [record.time for record in records if record.time is not None]
        days = {stamp(moment)[:10] for moment in (moments[:1] + moments[-1:])}
        sources = {record.source for record in records}
        self.day = days.pop() if len(days) == 1 else ""
        self.source = sources.pop() if len(sources) == 1 else ""

    def where(self) -> str:
        """What the rows leave out because it holds for all of them."""
        source = f" from {self.source}" if self.source else ""
        return f"{source} on {self.day} (UTC)" if self.day else f"{source} (UTC)"

    def lead(self, record: Record) -> str:
        time = stamp(record.time, day=not self.day) if record.time is not None else ""
        return " ".join(part for part in (time, "" if self.source else record.source) if part)

    def row(self, record: Record, most: int = LONGEST_ROW) -> str:
        return f"{self.lead(record)} {said(record, most)}".strip()

    def hit(self, hit: Hit, most: int = LONGEST_TRACE) -> str:
        """A hit with its context: `>` marks the lines of the record itself."""
        if not hit.before and not hit.after:
            return self.row(hit.record, most)
        own = [f"> {line}" for line in said(hit.record, most).split("\n")]
        before = [f"  {line}" for line in safe("\n".join(hit.before)).split("\n")] if hit.before else []
        after = [f"  {line}" for line in safe("\n".join(hit.after)).split("\n")] if hit.after else []
        return "\n".join([self.lead(hit.record), *before, *own, *after]).strip("\n")


def said(record: Record, most: int = LONGEST_ROW) -> str:
    """All of a record but its time stamp, which stands before it, and its level where the text does not name it."""
    first, line_end, rest = record.text.partition("\n")
    if record.time is not None and first.endswith(record.body):
        first = record.body
    if record.level and record.level[:4] not in first[:80].lower() and not first.startswith("{"):
        first = f"{record.level.upper()} {first}"
    return safe(first + line_end + rest, most)
