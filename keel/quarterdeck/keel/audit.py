"""The audit trail: one JSON line per event, each carrying the hash of the line before it.

`audit.jsonl` lies beside the ledger, whose `head` row remembers the newest line's number, hash and place in the
file. So an altered line, a missing one and a cut-off end are all found. Writers of several processes take turns by
the ledger's write transaction; a writer killed half-way leaves a torn or unrecorded last line, which the next
writer mends or adopts.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quarterdeck.keel.answers import clip, plain
from quarterdeck.keel.redact import redact

SCHEMA = """
CREATE TABLE IF NOT EXISTS head (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER, hash TEXT, end INTEGER);
INSERT OR IGNORE INTO head VALUES (1, 0, '', 0);
"""
FIRST = "0" * 64


@dataclass(frozen=True)
class Verdict:
    lines: int
    head: str
    problem: str = ""
    """What is wrong, and at which line; empty when the trail is whole."""


def hash_of(entry: dict[str, Any]) -> str:
    body = {key: value for key, value in entry.items() if key != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def append(connection: sqlite3.Connection, path: Path, event: str, **facts: Any) -> None:
    """Write one line. The connection must be inside a write transaction; the caller commits."""
    number, last, end = connection.execute("SELECT number, hash, end FROM head").fetchone()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        number, last, end = _mend(file, number, last or FIRST, end)
        entry: dict[str, Any] = {
            "number": number + 1,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            **{key: clean(value) for key, value in facts.items()},
            "before": last,
        }
        entry["hash"] = hash_of(entry)
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        file.seek(0, os.SEEK_END)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
        end = file.tell()
    connection.execute("UPDATE head SET number = ?, hash = ?, end = ?", (number + 1, entry["hash"], end))


def _mend(file: Any, number: int, last: str, end: int) -> tuple[int, str, int]:
    """What a killed writer left behind the recorded head: adopt whole lines that chain on, cut a torn one."""
    file.seek(end)
    for line in file.read().splitlines(keepends=True):
        entry = _parse(line)
        if not line.endswith(b"\n"):
            file.truncate(end)
            break
        if entry is None or entry.get("before") != last or entry.get("hash") != hash_of(entry):
            break  # not ours: leave it for `verify` to name
        number, last, end = entry["number"], entry["hash"], end + len(line)
    return number, last, end


def clean(value: Any) -> Any:
    """No secret and no control character enters the trail."""
    if isinstance(value, str):
        return clip(redact(plain(value)), 4000)
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    return value


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """Every line that can be read, oldest first."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            entry = _parse(line)
            if entry is not None:
                yield entry


def verify(path: Path, head: tuple[int, str, int]) -> Verdict:
    """Walk the chain from the first line to the last and compare its end with the recorded head."""
    number, last = 0, FIRST
    at_head = head[0] == 0
    if path.exists():
        with path.open("rb") as file:
            for count, line in enumerate(file, 1):
                entry = _parse(line)
                if entry is None:
                    if not line.endswith(b"\n") and number >= head[0]:
                        break  # the torn end of a writer that was killed; nothing recorded is missing
                    return Verdict(count - 1, last, f"line {count} is not a line of the trail")
                if entry.get("before") != last:
                    why = "a line before it was changed, added or removed"
                    return Verdict(count - 1, last, f"line {count} does not follow line {count - 1}: {why}")
                if entry.get("hash") != hash_of(entry):
                    return Verdict(count - 1, last, f"line {count} was changed after it was written")
                if entry.get("number") != number + 1:
                    return Verdict(count - 1, last, f"line {count} carries number {entry.get('number')}")
                number, last = number + 1, entry["hash"]
                at_head = at_head or (number, last) == (head[0], head[1])
    if not at_head:
        why = f"{head[0]} lines were written: the end was cut off or rewritten"
        return Verdict(number, last, f"the trail ends at line {number}, but {why}")
    return Verdict(number, last)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
