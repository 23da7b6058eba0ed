"""Who acts on what: of several runs that found the same trouble, one acts and the others report.

A turn belongs to a flow and to what it acts on. It survives its process, as its flow does, and ends with the flow,
however that ends: `take` names the holder, and whoever finds that it has ended clears it away. No clock takes part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from quarterdeck.keel import sqlitefile
from quarterdeck.keel.errors import Refusal

SCHEMA = "CREATE TABLE IF NOT EXISTS turns (target TEXT PRIMARY KEY, flow TEXT NOT NULL)"


def take(home: Path, target: str, flow: str) -> str:
    """Take the turn on a target. Returns the flow that has it: this one, or another."""
    with _writing(home) as db:
        db.execute("INSERT OR IGNORE INTO turns (target, flow) VALUES (?, ?)", (target, flow))
        holder: str = db.execute("SELECT flow FROM turns WHERE target = ?", (target,)).fetchone()[0]
        return holder


def give_back(home: Path, flow: str) -> None:
    with _writing(home) as db:
        db.execute("DELETE FROM turns WHERE flow = ?", (flow,))


@contextmanager
def _writing(home: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlitefile.connect(home / "turns.db", 10)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(SCHEMA)
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
    except (OSError, sqlite3.Error) as error:
        raise Refusal(f"{home / 'turns.db'} cannot be used ({error}). Free space or mend its permissions.") from None
