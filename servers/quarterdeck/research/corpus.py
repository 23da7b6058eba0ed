"""The local corpus as a search provider: its index is brought up to the files when it is asked, in the background."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings
from quarterdeck.research import folders
from quarterdeck.research.errors import Passing
from quarterdeck.research.index import Reader, Row, Writer, connect
from quarterdeck.research.providers import MOST_CONTENT, Found, Hit, Question

log = logging.getLogger("quarterdeck.research")

FIRST_PATIENCE_S = 20.0
"""How long the first question waits for a corpus that has no index yet; what is indexed by then is searched."""
PATIENCE_S = 0.5
CHECK_EVERY_S = 2.0
CHECK_SHARE = 50
"""Looking at the files takes at most this part of the time: a hundred thousand take half a second."""
QUIET_S = 2.0
"""Indexing that takes longer says how far it is."""
T = TypeVar("T")


def folders_of(settings: Settings) -> list[Path]:
    named = [Path(folder).expanduser() for folder in settings.research.corpus]
    return [folder.resolve() for folder in named or [settings.home / "corpus"]]


def missing_folder(folders: list[Path], *, named: bool) -> str:
    missing = next((folder for folder in folders if not folder.is_dir()), None)
    if missing is None:
        return ""
    if named:
        return f"there is no folder {missing}"
    return f"no folder of pages; put some into {missing}, or set QUARTERDECK_RESEARCH_CORPUS"


class Corpus:
    name = "corpus"
    kind = "folder"
    free = True
    cached = False

    def __init__(self, settings: Settings) -> None:
        self.folders = folders_of(settings)
        key = hashlib.sha256("\n".join(map(str, self.folders)).encode()).hexdigest()[:12]
        self._path = settings.home / "research" / f"corpus-{key}.db"
        self._named = bool(settings.research.corpus)
        self._local = threading.local()
        self._readers: list[Reader] = []
        self._searching = ThreadPoolExecutor(2, thread_name_prefix="corpus")
        self._stop = threading.Event()
        self._updating: threading.Thread | None = None
        self._updated = asyncio.Event()
        self._checked_at = -1e9
        self._check_s = 0.0
        self._done = 0
        self.note = ""

    def why_not(self) -> str:
        return missing_folder(self.folders, named=self._named)

    async def search(self, question: Question, until: float) -> Found:
        await self.fresh(until)
        rows = await self._read(lambda reader: reader.search(question.text, question.most, question.subject))
        hits = [Hit(row.url, row.title, row.text[:MOST_CONTENT], "corpus", row.published) for row in rows]
        return Found(hits, 0.0, self.note)

    async def page(self, url: str, until: float) -> Row | None:
        """A document of the corpus by its address."""
        if self.why_not():
            return None
        await self.fresh(until)
        return await self._read(lambda reader: reader.page(url))

    async def state(self) -> tuple[int, list[str]]:
        """How many documents are indexed, and which files could not be read."""
        await self.fresh(time.monotonic() + 1.0)
        return await self._read(lambda reader: (reader.count(), reader.problems()))

    async def fresh(self, until: float) -> None:
        """See whether files have changed, unless that was seen just now; wait a little for the index to have them."""
        now = time.monotonic()
        if self._updating is None and now - self._checked_at > max(CHECK_EVERY_S, CHECK_SHARE * self._check_s):
            self._updated = asyncio.Event()
            loop, updated = asyncio.get_running_loop(), self._updated

            def work() -> None:
                try:
                    self._update()
                except (sqlite3.Error, OSError) as error:
                    self.note = f"the index of the corpus could not be brought up to date: {error}"
                    log.warning("%s", self.note)
                finally:
                    self._checked_at = time.monotonic()
                    self._updating = None
                    try:
                        loop.call_soon_threadsafe(updated.set)
                    except RuntimeError:  # the loop has ended meanwhile
                        pass

            # A daemon: to end the process must not wait for a million pages; the index is whole after every batch.
            self._updating = threading.Thread(target=work, name="corpus-index", daemon=True)
            self._updating.start()
        if self._updating is not None:
            patience = PATIENCE_S if self._path.exists() and self._checked_at > 0 else FIRST_PATIENCE_S
            try:
                async with asyncio.timeout(max(0.01, min(patience, until - now - 0.5))):
                    await self._updated.wait()
            except TimeoutError:
                self.note = f"the corpus is still being indexed; {self._done:,} new documents are in so far"

    async def close(self) -> None:
        self._stop.set()
        updating = self._updating
        if updating is not None:
            await asyncio.to_thread(updating.join, 5.0)
        self._searching.shutdown(wait=True)
        for reader in self._readers:
            reader.close()

    def _update(self) -> None:
        began = time.monotonic()
        found = {file.path: file for file in folders.files(self.folders)}
        self._check_s = time.monotonic() - began
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_suffix(".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # another process is at it, and we read what it writes
            db = connect(self._path)
            said = began

            def progress(done: int) -> None:
                nonlocal said
                self._done = done
                if time.monotonic() - said > QUIET_S:
                    said = time.monotonic()
                    log.info("indexing the corpus: %s documents after %.0f s", f"{done:,}", said - began)

            try:
                writer = Writer(db, self._stop, progress)
                changed = writer.update(found)
                if changed and time.monotonic() - began > QUIET_S:
                    log.info("the corpus is indexed: %s documents came in", f"{writer.added:,}")
            finally:
                db.close()
        self.note = ""

    async def _read(self, work: Callable[[Reader], T]) -> T:
        def run() -> T:
            reader: Reader | None = getattr(self._local, "reader", None)
            if reader is None:
                reader = self._local.reader = Reader(self._path)
                self._readers.append(reader)
            return work(reader)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._searching, run)
        except sqlite3.OperationalError as error:
            raise Passing(f"the index of the corpus cannot be read now ({error}).") from None
        except sqlite3.DatabaseError as error:
            raise Refusal(
                f"The index of the corpus is damaged ({error}). Remove {self._path}; it is made anew."
            ) from None
