"""The index of the local corpus: SQLite's FTS5, kept up with the files.

Words are found by their stem. Korean, Chinese and Japanese are cut into pairs of letters as well, so that 삼성전자 is
found inside 삼성전자는, and 수원 though it has two letters only. Words that stand in many documents are not searched
for, which would cost time and tell nothing; they help to order what the rare ones found.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quarterdeck.keel import sqlitefile
from quarterdeck.research.folders import Document, File, Unreadable, documents

BATCH = 400
"""Documents between two commits: what an interruption loses at most."""
COMMON_SHARE = 0.004
COMMON_LEAST = 100
MOST_WORDS = 24
CANDIDATES = 60

_ASIAN = "\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_ASIAN}]+|[^\W_{_ASIAN}]+")
_RUN = re.compile(rf"[{_ASIAN}]+")
_LEGAL_TEXT = """
    inc incorporated corp corporation co company ltd limited llc llp plc gmbh ag sa sas bv nv ab oy as spa srl kk pte
    pty kg se lp the and of group holdings 주식회사 유한회사 재단법인 사단법인 株式会社 有限公司
"""
_LEGAL = frozenset(_LEGAL_TEXT.split())

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, path TEXT UNIQUE, mtime INTEGER, size INTEGER, documents INTEGER, problem TEXT);
CREATE TABLE IF NOT EXISTS docs (
    id INTEGER PRIMARY KEY, file INTEGER, url TEXT, title TEXT, text TEXT, published TEXT);
CREATE INDEX IF NOT EXISTS docs_file ON docs (file);
CREATE INDEX IF NOT EXISTS docs_url ON docs (url);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(title, text, pairs, content='', tokenize='porter unicode61');
CREATE VIRTUAL TABLE IF NOT EXISTS terms USING fts5vocab(words, row);
CREATE TABLE IF NOT EXISTS common (term TEXT PRIMARY KEY, docs INTEGER) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Row:
    url: str
    title: str
    text: str
    published: str | None


def _whole(text: str) -> str:
    """Without half characters, which JSON may hold and no file can."""
    return text.encode(errors="replace").decode()


def normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def pairs(text: str) -> str:
    """Every two neighbouring letters of each run of Korean, Chinese or Japanese."""
    found: list[str] = []
    for run in _RUN.findall(text):
        found += [run[at : at + 2] for at in range(len(run) - 1)] or [run]
    return " ".join(found)


def connect(path: Path, patience_s: float = 30.0) -> sqlite3.Connection:
    db = sqlitefile.connect(path, patience_s, check_same_thread=False)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -65536")
    db.executescript(SCHEMA)
    return db


class Writer:
    """Brings the index up to the files. Only one of several processes does it at a time (see `corpus`)."""

    def __init__(self, db: sqlite3.Connection, stop: threading.Event, progress: Callable[[int], None]) -> None:
        self._db, self._stop, self._progress = db, stop, progress
        self._open = 0
        self.added = 0
        self._gone = 0

    def update(self, found: dict[str, File]) -> int:
        """How many documents came or went. Interrupted at any moment, the next run takes up the rest."""
        known = {path: (mtime, size) for path, mtime, size in self._db.execute("SELECT path, mtime, size FROM files")}
        gone = [path for path in known if path not in found]
        changed = [file for path, file in found.items() if known.get(path) != (file.mtime_ns, file.size)]
        if not gone and not changed:
            return 0
        before = self._db.total_changes
        try:
            for path in gone:
                self._forget(path)
            for file in changed:
                if self._stop.is_set():
                    break
                self._take(file)
            self._commit()
        except BaseException:
            if self._open:
                self._db.execute("ROLLBACK")
            raise
        if 50 * (self.added + self._gone) > self._count():  # a few new pages do not change what is common
            self._find_common()
        return self._db.total_changes - before

    def _take(self, file: File) -> None:
        self._forget(file.path)
        self._begin()
        # Without its time until it is whole: a file that was interrupted is taken again.
        cursor = self._db.execute("INSERT INTO files VALUES (NULL, ?, 0, -1, 0, NULL)", (file.path,))
        number, count, problem = cursor.lastrowid, 0, None
        try:
            for document in documents(file):
                if self._stop.is_set():
                    return
                self._add(number, document)
                count += 1
        except Unreadable as error:
            problem = f"{file.name} {error}"
        except (sqlite3.Error, MemoryError):
            raise
        except Exception as error:  # whatever a file makes its reader stumble over: the others are read all the same
            problem = f"{file.name} cannot be read ({type(error).__name__})"
        self._begin()
        self._db.execute(
            "UPDATE files SET mtime = ?, size = ?, documents = ?, problem = ? WHERE id = ?",
            (file.mtime_ns, file.size, count, problem, number),
        )

    def _add(self, number: int | None, document: Document) -> None:
        self._begin()
        url, said_title, said = (_whole(one) for one in (document.url, document.title, document.text))
        title, text = normal(said_title), normal(said)
        cursor = self._db.execute(
            "INSERT INTO docs VALUES (NULL, ?, ?, ?, ?, ?)", (number, url, said_title, said, document.published)
        )
        self._db.execute(
            "INSERT INTO words (rowid, title, text, pairs) VALUES (?, ?, ?, ?)",
            (cursor.lastrowid, title, text, pairs(f"{title}\n{text}")),
        )
        self._open += 1
        self.added += 1
        if self._open >= BATCH:
            self._commit()
            self._progress(self.added)

    def _forget(self, path: str) -> None:
        row = self._db.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchone()
        if row is None:
            return
        self._begin()
        while rows := self._db.execute("SELECT id, title, text FROM docs WHERE file = ? LIMIT 200", row).fetchall():
            for number, title, text in rows:
                title, text = normal(title), normal(text)
                self._db.execute(
                    "INSERT INTO words (words, rowid, title, text, pairs) VALUES ('delete', ?, ?, ?, ?)",
                    (number, title, text, pairs(f"{title}\n{text}")),
                )
                self._db.execute("DELETE FROM docs WHERE id = ?", (number,))
                self._gone += 1
        self._db.execute("DELETE FROM files WHERE id = ?", row)

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._open = 0

    def _count(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM docs").fetchone()
        return int(count)

    def _find_common(self) -> None:
        least = max(COMMON_LEAST, int(self._count() * COMMON_SHARE))
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM common")
        self._db.execute("INSERT INTO common SELECT term, doc FROM terms WHERE doc > ?", (least,))
        self._db.execute("COMMIT")


class Reader:
    """Searches. One for each thread."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path)
        self._db.executescript(
            "CREATE VIRTUAL TABLE temp.probe USING fts5(word, tokenize='porter unicode61');"
            "CREATE VIRTUAL TABLE temp.stems USING fts5vocab(temp, probe, instance);"
        )
        self._common: dict[str, int] = {}
        self._version = -1

    def close(self) -> None:
        self._db.close()

    def count(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM docs").fetchone()
        return int(count)

    def problems(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT problem FROM files WHERE problem IS NOT NULL LIMIT 20")]

    def page(self, url: str) -> Row | None:
        found = self._db.execute(
            "SELECT url, title, text, published FROM docs WHERE url = ? LIMIT 1", (url,)
        ).fetchone()
        return Row(*found) if found else None

    def search(self, text: str, most: int, subject: str = "") -> list[Row]:
        """The best documents first. With a subject only those that name it; its name in the title goes before all."""
        self._know_common()
        words = _tokens(text)
        names = _tokens(subject)
        if names:
            telling = [name for name in names if name not in _LEGAL] or names
            found = self._match(_phrase(telling)) or self._match(" AND ".join(map(_term, telling)))
            return self._ordered(found, words, telling, most)
        if not words:
            return []
        stems = self._stems(words)
        rare = [word for word in words if stems.get(word, "") not in self._common]
        rare = [word for word in rare if not _RUN.match(word) or not self._is_common_asian(word)] or []
        found = self._match(" OR ".join(map(_term, rare))) if rare else []
        if not found:
            telling = sorted((w for w in words if w not in _LEGAL), key=lambda w: self._common.get(stems.get(w, ""), 0))
            found = self._match(" AND ".join(map(_term, telling[:3]))) if telling else []
        return self._ordered(found, words, [], most)

    def _match(self, expression: str) -> list[tuple[int, float]]:
        rows = self._db.execute(
            "SELECT rowid, bm25(words, 8.0, 1.0, 1.0) AS score FROM words WHERE words MATCH ? ORDER BY score LIMIT ?",
            (expression, CANDIDATES),
        )
        return rows.fetchall()

    def _ordered(self, found: list[tuple[int, float]], words: list[str], names: list[str], most: int) -> list[Row]:
        """bm25 weighs rare words; here the common ones and the name come in."""
        scored = []
        whole = " ".join(names)
        for place, (number, score) in enumerate(found):
            row = self._db.execute("SELECT url, title, text, published FROM docs WHERE id = ?", (number,)).fetchone()
            if row is None:
                continue
            title, text = normal(row[1]), normal(row[2][:20_000])
            spoken = sum(word in text or word in title for word in words) / max(1, len(words))
            named = 0.0
            if names:
                plain = " ".join(_TOKEN.findall(title))
                named = 3.0 if whole in plain else sum(name in title for name in names) / len(names)
                named += 2.0 * (plain == whole or plain.startswith(whole + " "))
            scored.append((-(named + 2 * spoken - score / 20), place, Row(*row)))
        scored.sort(key=lambda one: one[:2])
        return [row for *_, row in scored[:most]]

    def _stems(self, words: list[str]) -> dict[str, str]:
        """The term by which the index knows each word: found by letting it index them."""
        self._db.execute("DELETE FROM probe")
        self._db.executemany("INSERT INTO probe (rowid, word) VALUES (?, ?)", enumerate(words))
        return {words[number]: term for term, number in self._db.execute("SELECT term, doc FROM stems")}

    def _is_common_asian(self, word: str) -> bool:
        return all(pair in self._common for pair in pairs(word).split())

    def _know_common(self) -> None:
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._common = dict(self._db.execute("SELECT term, docs FROM common"))


def _tokens(text: str) -> list[str]:
    """The words of a text, none twice. Nothing in them has a meaning to FTS5 once they stand in quotes."""
    found = (token[:64] for token in _TOKEN.findall(normal(text[:4000])))
    return list(dict.fromkeys(found))[:MOST_WORDS]


def _term(word: str) -> str:
    if not _RUN.match(word):
        return f'"{word}"'
    return f'pairs : "{pairs(word)}"' if len(word) > 1 else f'pairs : "{word}" *'


def _phrase(words: list[str]) -> str:
    """The words side by side; a run of Korean cannot stand in one phrase with Latin words, so it is joined by AND."""
    parts: list[str] = []
    latin: list[str] = []
    for word in [*words, ""]:
        if word and not _RUN.match(word):
            latin.append(word)
            continue
        if latin:
            parts.append('"' + " ".join(latin) + '"')
            latin = []
        if word:
            parts.append(_term(word))
    return " AND ".join(parts)
