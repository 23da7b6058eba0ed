"""The audit trail: one JSON line per event, each carrying the hash of the line before it.

`audit.jsonl` lies beside the ledger. A line is first committed to the ledger, together with what it tells of, then
written to the file: the ledger's `head` row remembers the newest line's number and hash, and `unwritten` the lines
that the file may lack. So nothing in the file is ever ahead of the ledger: an altered line, a missing one, a cut-off
end and an added one are all found, and what a killed writer left undone is finished by the next.
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
CREATE TABLE IF NOT EXISTS unwritten (number INTEGER PRIMARY KEY, line BLOB NOT NULL);
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


def append(db: sqlite3.Connection, event: str, **facts: Any) -> None:
    """Add one line. The connection must be inside a write transaction; `flush` follows when it is committed."""
    number, last = db.execute("SELECT number, hash FROM head").fetchone()
    entry: dict[str, Any] = {
        "number": number + 1,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        **{key: clean(value) for key, value in facts.items()},
        "before": last or FIRST,
    }
    entry["hash"] = hash_of(entry)
    line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    db.execute("INSERT INTO unwritten VALUES (?, ?)", (number + 1, line))
    db.execute("UPDATE head SET number = ?, hash = ?", (number + 1, entry["hash"]))


def flush(db: sqlite3.Connection, path: Path) -> None:
    """Bring committed lines into the file, none twice. Inside a write transaction: writers take turns."""
    lines = b"".join(line for (line,) in db.execute("SELECT line FROM unwritten ORDER BY number"))
    if not lines:
        return
    (end,) = db.execute("SELECT end FROM head").fetchone()
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(min(end, size))
        there = file.read(len(lines) + 1)
        if lines.startswith(there):  # nothing, or what a killed writer got done
            lines = lines[len(there) :]
        else:  # somebody else's: it stays for `verify` to name
            file.seek(size)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
        end = file.tell()
    db.execute("DELETE FROM unwritten")
    db.execute("UPDATE head SET end = ?", (end,))


def clean(value: Any) -> Any:
    """No secret and no control character enters the trail."""
    if isinstance(value, str):
        return clip(redact(plain(value)), 4000)
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
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


def verify(path: Path, head: tuple[int, str]) -> Verdict:
    """Walk the chain from the first line to the last, which must be the recorded head."""
    number, last = 0, FIRST
    if path.exists():
        with path.open("rb") as file:
            for count, line in enumerate(file, 1):
                entry = _parse(line)
                if entry is None or not line.endswith(b"\n"):
                    return Verdict(number, last, f"line {count} is not a line of the trail")
                if entry.get("before") != last:
                    why = "a line before it was changed, added or removed"
                    return Verdict(number, last, f"line {count} does not follow line {count - 1}: {why}")
                if entry.get("hash") != hash_of(entry):
                    return Verdict(number, last, f"line {count} was changed after it was written")
                if entry.get("number") != number + 1:
                    return Verdict(number, last, f"line {count} carries number {str(entry.get('number'))[:20]}")
                if count > head[0]:
                    return Verdict(number, last, f"line {count} was added: only {head[0]} lines were written")
                number, last = count, entry["hash"]
    if number < head[0]:
        why = f"{head[0]} lines were written: the end was cut off"
        return Verdict(number, last, f"the trail ends at line {number}, but {why}")
    if last != head[1]:
        return Verdict(number, last, "its last line is not the one that was recorded: lines were rewritten")
    return Verdict(number, last)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
