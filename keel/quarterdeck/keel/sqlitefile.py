"""SQLite files of ours: for their owner's eyes only, in WAL mode, opened by several processes at once."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path


def connect(path: Path, patience_s: float, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """A connection without implicit transactions. A new file is private before SQLite writes into it or beside it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=patience_s, isolation_level=None, check_same_thread=check_same_thread)
    try:
        _write_ahead(db, patience_s)
    except BaseException:
        db.close()
        raise
    return db


def _write_ahead(db: sqlite3.Connection, patience_s: float) -> None:
    """Of several processes that open a new file at once one may switch it; SQLite does not let the others wait."""
    until = time.monotonic() + patience_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
