"""What was found and fetched, kept for a while with its age: in a file in home, or in Redis for several processes.

A cache that fails is a cache that has nothing: its troubles are logged once and never reach a caller.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from quarterdeck.keel import sqlitefile
from quarterdeck.research.shared import Shared

log = logging.getLogger("quarterdeck.research")

LARGEST = 2 << 20
"""A packed value larger than this is not kept."""


class Cache(Protocol):
    async def get(self, key: str) -> tuple[Any, float] | None:
        """The value and its age in seconds."""
        ...

    async def put(self, key: str, value: Any, ttl_s: float) -> None:
        """Keep it for so long; whether it is fresh enough is for whoever gets it to say, by its age."""
        ...

    async def close(self) -> None: ...


def key_of(kind: str, *parts: object) -> str:
    return f"{kind}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"


def _packed(value: Any, at: float) -> bytes:
    return zlib.compress(json.dumps([at, value], ensure_ascii=False).encode(errors="replace"), 1)


def _unpacked(packed: bytes) -> tuple[Any, float]:
    at, value = json.loads(zlib.decompress(packed))
    return value, max(0.0, time.time() - float(at))


class FileCache:
    """One SQLite file, the oldest entries dropped when it grows over its size."""

    CHECK_EVERY = 64

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._most = path, most_bytes
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._puts = 0
        self._warned = False

    async def get(self, key: str) -> tuple[Any, float] | None:
        found = await asyncio.to_thread(self._safely, self._get, key)
        try:
            return _unpacked(found) if found is not None else None
        except (ValueError, TypeError, zlib.error):
            return None

    async def put(self, key: str, value: Any, ttl_s: float) -> None:
        if ttl_s <= 0:
            return
        await asyncio.to_thread(self._safely, self._put, key, value, ttl_s)

    async def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _safely(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with self._lock:
                return work(self._open(), *arguments)
        except (sqlite3.Error, OSError) as error:
            if not self._warned:
                self._warned = True
                log.warning("the cache at %s is not used: %s", self._path, error)
            return None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = sqlitefile.connect(self._path, 2.0, check_same_thread=False)
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, at REAL, until REAL, size INTEGER, value BLOB)"
                " WITHOUT ROWID"
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS kept_at ON kept (at)")
        return self._db

    def _get(self, db: sqlite3.Connection, key: str) -> bytes | None:
        row = db.execute("SELECT value FROM kept WHERE key = ? AND until > ?", (key, time.time())).fetchone()
        return row[0] if row else None

    def _put(self, db: sqlite3.Connection, key: str, value: Any, ttl_s: float) -> None:
        now = time.time()
        packed = _packed(value, now)
        if len(packed) > min(LARGEST, self._most):
            return
        db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)", (key, now, now + ttl_s, len(packed), packed))
        self._puts += 1
        if self._puts % self.CHECK_EVERY == 1:
            self._shrink(db, now)

    def _shrink(self, db: sqlite3.Connection, now: float) -> None:
        db.execute("DELETE FROM kept WHERE until <= ?", (now,))
        (size,) = db.execute("SELECT coalesce(sum(size), 0) FROM kept").fetchone()
        while size > self._most:  # to nine tenths, so that not every put comes here again
            rows = db.execute("SELECT key, size FROM kept ORDER BY at LIMIT 200").fetchall()
            gone = 0
            for key, one in rows:
                db.execute("DELETE FROM kept WHERE key = ?", (key,))
                gone += one
                if size - gone <= self._most * 0.9:
                    break
            size -= gone
            if not rows:
                break


class SharedCache:
    """The same in Redis, whose own memory limit bounds it."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def get(self, key: str) -> tuple[Any, float] | None:
        found = await self._shared.ask(self._shared.redis.get, f"quarterdeck:kept:{key}")
        try:
            return _unpacked(found) if found is not None else None
        except (ValueError, TypeError, zlib.error):
            return None

    async def put(self, key: str, value: Any, ttl_s: float) -> None:
        packed = _packed(value, time.time())
        if ttl_s > 0 and len(packed) <= LARGEST:
            life = max(1, int(ttl_s * 1000))
            await self._shared.ask(self._shared.redis.set, f"quarterdeck:kept:{key}", packed, px=life)

    async def close(self) -> None:
        """The connection belongs to whoever opened it."""
