"""One log file: where a time lies in it, its last records, and the record around a position."""

from __future__ import annotations

import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import IO

from quarterdeck.logs.lines import read_time
from quarterdeck.logs.records import Record, Unwrap, join, wrapping
from quarterdeck.logs.search import OVERHANG, Stop
from quarterdeck.logs.sources import Window

MOST_READ = 24 << 20
"""Bytes of one file that are turned into records for one answer."""
MOST_UNPACKED = 1 << 30
PROBES = 17


class Unreadable(Exception):
    """A file that cannot be read, with a few words on why."""


@dataclass
class LogFile:
    fd: int
    size: int
    name: str
    zone: tzinfo
    unwrap: Unwrap | None = None

    def slice(self, start: int, end: int) -> bytes:
        return os.pread(self.fd, max(0, end - start), start)

    def time_of(self, line: bytes) -> float | None:
        text = line[:600].decode(errors="replace")
        if self.unwrap and (noted := self.unwrap(line.decode(errors="replace"))[0]) is not None:
            return noted
        return read_time(line.decode(errors="replace") if text[:1] == "{" else text, self.zone)

    def first_time(self, start: int) -> tuple[int, float] | None:
        """The first line with a time that begins at or after `start`, among the next 64 KB."""
        data = self.slice(max(0, start - 1), start + OVERHANG)
        position = data.find(b"\n") + 1 if start else 0
        if start and not position:
            return None
        offset = max(0, start - 1)
        while position < len(data):
            finish = data.find(b"\n", position)
            line = data[position : finish if finish >= 0 else len(data)]
            if (moment := self.time_of(line)) is not None:
                return offset + position, moment
            if finish < 0:
                break
            position = finish + 1
        return None

    def ordered(self) -> bool | None:
        """Whether its times rise, as far as samples tell; None when it carries no times."""
        last = None
        for probe in range(PROBES):
            found = self.first_time(self.size * probe // PROBES)
            if found is None:
                continue
            if last is not None and found[1] < last - 5:
                return False
            last = found[1]
        return None if last is None else True

    def seek(self, moment: float) -> int:
        """Where the first line of that time or a later one begins, in a file whose times rise."""
        low, high = 0, self.size
        while high - low > 4096:
            middle = (low + high) // 2
            found = self.first_time(middle)
            if found is None or found[1] >= moment:
                high = middle
            else:
                low = middle
        while (found := self.first_time(low)) is not None and found[1] < moment:
            low = found[0] + 1
        return found[0] if found is not None else self.size

    def span(self, window: Window) -> tuple[int, int]:
        """The bytes that hold a window, in a file whose times rise."""
        start = 0 if window.start is None else self.seek(window.start)
        end = self.size if window.end is None else self.seek(window.end)
        return start, max(start, end)

    def records(self, data: bytes) -> list[Record]:
        lines = data.decode(errors="replace").split("\n")
        return list(join(lines, self.name, self.zone, unwrap=self.unwrap))

    def last_records(self, start: int, end: int, most: int, stop: Stop) -> tuple[list[Record], bool]:
        """The last `most` records in these bytes, and whether there are older ones that were left."""
        size = max(64 << 10, min(most * 256, MOST_READ))
        while True:
            low = max(start, end - size)
            data = self.slice(low, end)
            records = self.records(data)
            if low > start and records:
                del records[0]  # it may have begun before
            if low == start or len(records) >= most or size >= MOST_READ or stop:
                return records[-most:], low > start or len(records) > most
            size *= 4

    def around(self, position: int, context: int) -> tuple[Record, list[str], list[str], int] | None:
        """The record with the line at `position`, `context` lines before and after it, and where it begins."""
        near = self._around(position, context, 16 << 10)
        if near is None or near[4]:
            near = self._around(position, context, 256 << 10)
        return near[:4] if near else None

    def _around(self, position: int, context: int, reach: int) -> tuple[Record, list[str], list[str], int, bool] | None:
        """The same from the bytes within `reach`, and whether it may go on beyond them."""
        low, high = max(0, position - reach), min(self.size, position + reach)
        data = self.slice(low, high)
        skipped = data.find(b"\n", 0, position - low) + 1 if low else 0
        lines = data[skipped:].split(b"\n")
        texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
        index = data.count(b"\n", skipped, position - low)
        record = None
        for record in join(texts, self.name, self.zone, unwrap=self.unwrap):
            if record.end > index:
                break
        if record is None:
            return None
        torn = (low > 0 and record.first <= context) or (high < self.size and record.end + context >= len(texts) - 1)
        begins = low + skipped + sum([len(line) + 1 for line in lines[: record.first]])
        if self.unwrap:
            texts = [self.unwrap(text)[1] for text in texts]
        if texts and not texts[-1]:
            texts.pop()  # what follows the last line feed is no line
        before = texts[max(0, record.first - context) : record.first]
        after = texts[record.end : record.end + context]
        return record, before, after, begins, torn


@contextmanager
def open_log(path: Path, zone: tzinfo, stop: Stop) -> Iterator[LogFile]:
    """Open a file for reading; a .gz is unpacked into an unnamed temporary file first."""
    try:
        # The path was resolved before: a link put there since, or a pipe, must not be followed or waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(_why(error)) from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("is not a plain file")
        if path.suffix == ".gz":
            with tempfile.TemporaryFile(prefix="quarterdeck-") as unpacked:
                size = _unpack(fd, unpacked, stop)
                yield _log_file(unpacked.fileno(), size, path.name, zone)
        else:
            yield _log_file(fd, status.st_size, path.name, zone)
    finally:
        os.close(fd)


def _log_file(fd: int, size: int, name: str, zone: tzinfo) -> LogFile:
    sample = os.pread(fd, 4096, 0).split(b"\n", 1)[0].decode(errors="replace")
    return LogFile(fd, size, name, zone, wrapping(sample))


def _unpack(fd: int, target: IO[bytes], stop: Stop) -> int:
    size = 0
    try:
        with os.fdopen(os.dup(fd), "rb") as raw, gzip.GzipFile(fileobj=raw) as packed:
            while chunk := packed.read(1 << 20):
                size += target.write(chunk)
                if size > MOST_UNPACKED:
                    raise Unreadable(f"holds more than {MOST_UNPACKED >> 30} GB when unpacked")
                if stop:
                    raise Unreadable("took too long to unpack")
            target.flush()
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"is not a whole gzip file ({type(error).__name__})") from None
    return size


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    if isinstance(error, FileNotFoundError):
        return "is gone"
    return f"cannot be read ({error.strerror})"
