"""Logs in plain files: for each service the files that its globs name, and nothing else, ever."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from itertools import islice
from pathlib import Path

from quarterdeck.keel.errors import Refusal
from quarterdeck.logs.logfile import LogFile, Unreadable, open_log
from quarterdeck.logs.search import MOST_MATCHES, Pattern, Scan, Stop, scan
from quarterdeck.logs.sources import Found, Hit, Reading, Window, in_order, in_thread, newest, pick

MOST_FILES = 200
MOST_RECORDS_IN_ALL = 200_000
_WILD = re.compile(r"[*?\[]")


class Files:
    """`globs` names each service's files: `/var/log/blog/*.log*`, several parted by `;`, `**` for any depth.

    Lines without a time zone are taken to be in `zone`; by default this machine's, as the files are.
    """

    def __init__(self, globs: Mapping[str, str], zone: tzinfo | None = None) -> None:
        self.globs = {name: [part.strip() for part in text.split(";") if part.strip()] for name, text in globs.items()}
        self.zone = zone or _local_zone()

    async def services(self) -> list[str]:
        return sorted(self.globs)

    async def read(self, service: str | None, window: Window, most: int, stop: Stop) -> Reading:
        paths, notes = self._paths(service)
        return await in_thread(stop, lambda: self._read(paths, notes, window, most, stop))

    async def search(
        self, service: str | None, pattern: Pattern, window: Window, limit: int, context: int, stop: Stop
    ) -> Found:
        paths, notes = self._paths(service)
        return await in_thread(stop, lambda: self._search(paths, notes, pattern, window, limit, context, stop))

    def _paths(self, service: str | None) -> tuple[list[Path], list[str]]:
        if not self.globs:
            raise Refusal(
                "No log files are configured. Name them: QUARTERDECK_LOGS_FILES='blog=/var/log/blog/*.log*',"
                " or set QUARTERDECK_LOGS_SOURCE to kubernetes or loki."
            )
        names = sorted(self.globs) if service is None else [pick(service, sorted(self.globs))]
        paths: list[Path] = []
        notes: list[str] = []
        for name in names:
            found, refused = files_of(self.globs[name])
            paths += found
            notes += refused
            if not found and service is not None:
                notes.append(f"no file matches {' or '.join(self.globs[name])}")
        return paths, notes

    def _read(self, paths: list[Path], notes: list[str], window: Window, most: int, stop: Stop) -> Reading:
        reading = Reading(notes=list(notes))
        groups = []
        recent = self._recent(paths, window)
        share = max(1, min(most, MOST_RECORDS_IN_ALL // max(1, len(recent))))
        for path in recent:
            if stop:
                reading.notes.append("time was up before all files were read")
                reading.more = True
                break
            try:
                with open_log(path, self.zone, stop) as file:
                    start, end, _ = self._bounds(file, window, reading.notes)
                    records, more = file.last_records(start, end, share, stop)
            except Unreadable as error:
                reading.notes.append(f"{path.name} {error}")
                continue
            groups.append([record for record in records if window.holds(record.time)])
            reading.parts.append(path.name)
            reading.more |= more
        reading.records = in_order(groups)
        return reading

    def _search(
        self,
        paths: list[Path],
        notes: list[str],
        pattern: Pattern,
        window: Window,
        limit: int,
        context: int,
        stop: Stop,
    ) -> Found:
        found = Found(notes=list(notes))
        hits: list[Hit] = []
        for path in self._recent(paths, window):
            if stop or found.matches > MOST_MATCHES:
                found.complete = False
                break
            try:
                with open_log(path, self.zone, stop) as file:
                    start, end, accept = self._bounds(file, window, found.notes)
                    result = scan(file.fd, start, end, pattern, 8 * limit, stop, accept=accept)
                    hits += _hits(file, result, window, limit, context)
            except Unreadable as error:
                found.notes.append(f"{path.name} {error}")
                continue
            found.parts.append(path.name)
            found.matches += result.matches
            if not result.complete:
                found.complete = False
                if stop:
                    found.notes.append(
                        f"time was up after {result.searched >> 20} of {(end - start) >> 20} MB of {path.name},"
                        " read from its end"
                    )
        found.hits = newest(hits, limit)
        return found

    def _recent(self, paths: list[Path], window: Window) -> list[Path]:
        """The files that can hold the window, newest first: one that was last written before it cannot."""
        dated = []
        for path in paths:
            try:
                written = path.stat().st_mtime
            except OSError:
                written = float("inf")  # opening it will say what is wrong
            if window.start is None or written >= window.start - 1:
                dated.append((written, path))
        return [path for _, path in sorted(dated, key=lambda pair: (-pair[0], str(pair[1])))]

    def _bounds(
        self, file: LogFile, window: Window, notes: list[str]
    ) -> tuple[int, int, Callable[[bytearray, int], bool] | None]:
        """The bytes to look at and, where the file's times do not rise, what decides line by line."""
        if window.start is None and window.end is None:
            return 0, file.size, None
        ordered = file.ordered()
        if ordered is None:
            if file.size:
                notes.append(f"the lines of {file.name} carry no time, so all of it was taken")
            return 0, file.size, None
        if ordered:
            start, end = file.span(window)
            return start, end, None
        return 0, file.size, lambda buffer, position: window.holds(_time_before(file, buffer, position))


def files_of(globs: list[str]) -> tuple[list[Path], list[str]]:
    """The files that globs name, resolved, and notes on those refused: links must not lead out of the folder."""
    found: dict[Path, None] = {}
    notes: list[str] = []
    for pattern in globs:
        pattern = str(Path(pattern).expanduser())
        base = _fixed_part(pattern).resolve()
        for name in islice(glob.iglob(pattern, recursive=True), MOST_FILES + 1):  # noqa: PTH207 - pathlib's takes no absolute glob
            path = Path(name).resolve()
            if not path.is_relative_to(base):
                notes.append(f"{Path(name).name} is a link that leads out of its folder and was not read")
            elif path.is_file():
                found[path] = None
    if len(found) > MOST_FILES:
        notes.append(f"more than {MOST_FILES} files match; only the first {MOST_FILES} were read")
    return list(found)[:MOST_FILES], notes[:10]


def _fixed_part(pattern: str) -> Path:
    """The folder of a glob before its first wildcard."""
    parts = Path(pattern).parts
    wild = (index for index, part in enumerate(parts) if _WILD.search(part))
    fixed = parts[: next(wild, len(parts) - 1)]
    return Path(*fixed) if fixed else Path()


def _hits(file: LogFile, result: Scan, window: Window, limit: int, context: int) -> list[Hit]:
    """The newest records that hold matching lines; several matches in one record are one hit."""
    hits: list[Hit] = []
    begins: int | None = None
    for position in reversed(result.newest):
        if begins is not None and position >= begins:
            continue
        found = file.around(position, context)
        if found is None:
            continue
        record, before, after, begins = found
        if window.holds(record.time):
            hits.append(Hit(record, before, after))
        if len(hits) == limit:
            break
    return hits


def _time_before(file: LogFile, buffer: bytearray, position: int) -> float | None:
    """The time of the line at `position`, or of the nearest line before it that has one."""
    for _ in range(40):
        finish = buffer.find(b"\n", position, position + 600)
        line = bytes(buffer[position : finish if finish >= 0 else position + 600])
        if (moment := file.time_of(line)) is not None or position == 0:
            return moment
        position = buffer.rfind(b"\n", 0, position - 1) + 1
    return None


def _local_zone() -> tzinfo:
    here = datetime.now(UTC).astimezone()
    return (here.utcoffset() and here.tzinfo) or UTC
