"""Company names from a file of nearly any kind: read once, row by row, into a plain list on disk.

    with read_list(Path("companies.xlsx")) as companies:
        print(companies.count, companies.blank, companies.repeated, companies.broken)
        for name in companies: ...

What a row's trouble is stands in `broken` with its line. A million rows take a few megabytes of memory.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from quarterdeck.agents.companies import names
from quarterdeck.agents.companies.names import LONGEST
from quarterdeck.agents.companies.rows import Row, rows_of
from quarterdeck.keel.answers import clip, one_line
from quarterdeck.keel.errors import Refusal

MOST_SHOWN = 20
"""Broken rows that are kept to be shown; all are counted."""
MOST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Broken:
    """A row that gave no name."""

    line: int
    why: str


@dataclass
class CompanyList:
    """The names of one file: cleaned, each once, in the file's order."""

    source: str
    kind: str
    spool: IO[bytes]
    column: str = ""
    count: int = 0
    blank: int = 0
    repeated: int = 0
    unread: int = 0
    broken: list[Broken] = field(default_factory=list)
    digest: str = ""

    def __enter__(self) -> CompanyList:
        return self

    def __exit__(self, *_: object) -> None:
        self.spool.close()

    def __iter__(self) -> Iterator[str]:
        self.spool.seek(0)
        for line in self.spool:
            yield line[:-1].decode()

    def words(self) -> str:
        """What was read and what was left out, in a line."""
        where = f" in column {one_line(clip(self.column, 40))!r}" if self.column else ""
        left = [
            text.format(f"{count:,}")
            for count, text in (
                (self.repeated, "{} repeated"),
                (self.blank, "{} blank"),
                (self.unread, "{} that could not be read"),
            )
            if count
        ]
        out = f"; left out: {', '.join(left)}" if left else ""
        return f"{self.count:,} {'company' if self.count == 1 else 'companies'}{where}{out}"


def read_list(source: Path | str, column: str = "") -> CompanyList:
    """The names in a csv, tsv, xlsx, jsonl, parquet or txt file, or on stdin as `-`. Raises Refusal."""
    with tempfile.TemporaryDirectory(prefix="quarterdeck-list-") as folder:
        path = _from_stdin(Path(folder)) if str(source) == "-" else Path(source)
        shown = "stdin" if str(source) == "-" else str(source)
        _refuse_unreadable(path, shown)
        kind, found, rows = rows_of(path, shown, column)
        spool = tempfile.TemporaryFile(prefix="quarterdeck-list-")  # noqa: SIM115  it lives as long as the names
        try:
            companies = CompanyList(shown, kind, spool, found)
            _collect(companies, rows)
        except OSError as error:
            spool.close()
            raise _no_room(error) from None
        except BaseException:
            spool.close()
            raise
    if companies.count == 0:
        spool.close()
        first = f" Line {companies.broken[0].line}: {companies.broken[0].why}." if companies.broken else ""
        raise Refusal(f"{shown} holds no company name.{first} Check the file, or name the column with --column.")
    return companies


def _collect(companies: CompanyList, rows: Iterator[Row]) -> None:
    seen, digest = _Seen(), hashlib.sha256()
    for line, value, why in rows:
        if why:
            _report(companies, line, why)
            continue
        if not value or value.isspace():
            companies.blank += 1
            continue
        if len(value) > LONGEST:
            _report(companies, line, f"{len(value):,} characters are no company name (at most {LONGEST})")
            continue
        name = names.clean(value)
        if not re.search(r"\w", name):
            _report(companies, line, f"{clip(name, 40)!r} is no company name" if name else "only invisible characters")
            continue
        if not seen.add(names.key(name)):
            companies.repeated += 1
            continue
        kept = name.encode() + b"\n"
        digest.update(kept)
        companies.spool.write(kept)
        companies.count += 1
    companies.spool.flush()
    companies.digest = digest.hexdigest()


def _report(companies: CompanyList, line: int, why: str) -> None:
    companies.unread += 1
    if len(companies.broken) < MOST_SHOWN:
        companies.broken.append(Broken(line, why))


class _Seen:
    """Which names were met: 8 bytes a name in one table, where a set of strings takes a hundred."""

    def __init__(self) -> None:
        self.table = array("Q", bytes(8 * 1024))
        self.used = 0

    def add(self, key: str) -> bool:
        """Whether it is new."""
        mark = int(key[:16], 16) or 1
        if not self._put(self.table, mark):
            return False
        self.used += 1
        if self.used * 2 > len(self.table):
            grown = array("Q", bytes(8 * 2 * len(self.table)))
            for one in self.table:
                if one:
                    self._put(grown, one)
            self.table = grown
        return True

    @staticmethod
    def _put(table: array[int], mark: int) -> bool:
        last = len(table) - 1
        at = mark & last
        while found := table[at]:
            if found == mark:
                return False
            at = (at + 1) & last
        table[at] = mark
        return True


def _from_stdin(folder: Path) -> Path:
    if sys.stdin is None or sys.stdin.isatty():
        raise Refusal("`-` reads names from a pipe, such as `cut -f2 list.tsv | quarterdeck companies run - …`.")
    path = folder / "stdin"
    try:
        with path.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
    except OSError as error:
        raise _no_room(error) from None
    return path


def _no_room(error: OSError) -> Refusal:
    return Refusal(
        f"The names cannot be read into {tempfile.gettempdir()}: {error.strerror or type(error).__name__}. Make room "
        "there, or set TMPDIR to another folder."
    )


def _refuse_unreadable(path: Path, shown: str) -> None:
    try:
        if path.is_dir():
            raise Refusal(f"{shown} is a folder. Name a csv, tsv, xlsx, jsonl, parquet or txt file in it.")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise Refusal(f"There is no file {shown}. Check the name, or write `-` to read from a pipe.") from None
    except OSError as error:
        raise Refusal(f"{shown} cannot be read: {error.strerror}. Mend its permissions or name another.") from None
    if size == 0:
        raise Refusal(f"{shown} is empty. It needs one company name a line, or a table with such a column.")
    if size > MOST_BYTES:
        raise Refusal(f"{shown} has {size / 2**30:.1f} GB; at most {MOST_BYTES / 2**30:.0f} are read. Split it.")
