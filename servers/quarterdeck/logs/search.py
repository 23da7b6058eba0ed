"""Searching for a caller's pattern: RE2 over big blocks of a file, newest first, on as many cores as help.

RE2 never backtracks, so no pattern can hang the server; its time is proportional to the text. Blocks are read into one
reused buffer per thread and not mapped into memory: a log that is truncated while it is mapped kills its reader, and
mapped pages count as this process' memory.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import re2

from quarterdeck.keel.errors import Refusal

LONGEST_PATTERN = 1_000
BLOCK = 2 << 20
OVERHANG = 64 << 10
"""Bytes of a line that are searched beyond the block it starts in."""
MOST_MATCHES = 100_000
"""Matching lines that are counted; where nearly every line matches, counting on tells nobody anything."""
CROWDED = 256
"""Matches in one block from which on its thread asks for the interpreter alone: two would only fight over it."""
THREADS = min(2, os.cpu_count() or 1)

_ANYWHERE = re2._re2.RE2.Anchor.UNANCHORED


class Stop:
    """Tells a worker thread to end: the caller went away, or its time is up."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    def __bool__(self) -> bool:
        return self._cancelled.is_set() or time.monotonic() > self._deadline


class Pattern:
    """A caller's regular expression, matched within single lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._re2 = _compile(text)
        self._match = self._re2.Match

    def in_line(self, line: str) -> bool:
        encoded = line.encode(errors="replace")
        return bool(self._match(_ANYWHERE, encoded, 0, len(encoded))[0][1] >= 0)

    def find_end(self, buffer: bytes | bytearray, start: int, end: int) -> int:
        """Where the first match ends, or -1."""
        return int(self._match(_ANYWHERE, buffer, start, end)[0][1])

    def lines_matching(self, text: str) -> int:
        return sum(map(self.in_line, text.split("\n")))


def _compile(text: str) -> Any:
    if not text:
        raise Refusal("The pattern is empty. Give a word or a regular expression, such as 'timeout|refused'.")
    if len(text) > LONGEST_PATTERN:
        raise Refusal(
            f"The pattern has {len(text)} characters; {LONGEST_PATTERN} are allowed. Search for less at once."
        )
    options = re2.Options()
    options.never_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = 32 << 20
    compiled = re2._re2.RE2(b"(?m)" + text.encode(errors="replace"), options)
    if not compiled.ok():
        raise Refusal(_say(text, compiled.error()))
    return compiled


def _say(text: str, error: bytes | str) -> str:
    message = error.decode(errors="replace") if isinstance(error, bytes) else error
    message = message.replace(": (?m)", ": ")
    fragment = message.rpartition(": ")[2] if ": " in message else ""
    position = text.find(fragment) if fragment else -1
    place = f" at character {position + 1}" if position >= 0 else ""
    if "too large" in message or "repetition size" in message:
        return f"The pattern is too large for RE2: {message}{place}. Use fewer or smaller repetitions."
    return (
        f"The pattern is not RE2: {message}{place} (backreferences and look-arounds are not supported)."
        " To search for the characters themselves, put a backslash before each of . * + ? ( ) [ ] { } | ^ $"
    )


@dataclass
class Scan:
    """What a search of one file found."""

    matches: int = 0
    """Lines that match, as far as they were counted."""
    newest: list[int] = field(default_factory=list)
    """Where the newest of them start in the file, in file order."""
    complete: bool = True
    """Whether every line was looked at."""
    searched: int = 0
    """Bytes that were looked at."""


def scan(
    fd: int,
    start: int,
    end: int,
    pattern: Pattern,
    keep: int,
    stop: Stop,
    *,
    most: int | None = MOST_MATCHES,
    accept: Callable[[bytearray, int], bool] | None = None,
) -> Scan:
    """Search the lines that begin in [start, end) of an open file, from its end backwards.

    Keeps the newest `keep` positions and goes on counting to `most`. `accept(buffer, line start)` may turn one down.
    """
    found = Scan()
    crowd = threading.Lock()
    local = threading.local()

    def block(base: int) -> tuple[int, list[int]]:
        if stop:
            return -1, []
        if not hasattr(local, "buffer"):
            local.buffer = bytearray(1 + BLOCK + OVERHANG + 1)
        return _scan_block(fd, base, start, end, pattern, keep, local.buffer, crowd, accept)

    for base, (count, positions) in _newest_first(block, range(start, end, BLOCK)):
        if count < 0:
            found.complete = False
            break
        found.matches += count
        found.searched += min(BLOCK, end - base)
        if (wanted := keep - len(found.newest)) > 0:
            found.newest[:0] = positions[-wanted:]
        if most is not None and found.matches > most:
            found.complete = base == start
            break
    return found


def _newest_first(
    work: Callable[[int], tuple[int, list[int]]], bases: Sequence[int]
) -> Iterator[tuple[int, tuple[int, list[int]]]]:
    """The results of the blocks from the last to the first, a few of them being worked on at any time."""
    if len(bases) <= 2 or THREADS == 1:
        for base in reversed(bases):
            yield base, work(base)
        return
    waiting: deque[tuple[int, Future[tuple[int, list[int]]]]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="search") as pool:
        try:
            for base in reversed(bases):
                waiting.append((base, pool.submit(work, base)))
                if len(waiting) > 2 * THREADS:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            while waiting:
                ready, future = waiting.popleft()
                yield ready, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _scan_block(
    fd: int,
    base: int,
    start: int,
    end: int,
    pattern: Pattern,
    keep: int,
    buffer: bytearray,
    crowd: threading.Lock,
    accept: Callable[[bytearray, int], bool] | None,
) -> tuple[int, list[int]]:
    """How many lines that begin in this block match, and where the last `keep` of them start."""
    lead = 1 if base > start else 0  # the byte before tells whether a line starts at `base`
    size = min(BLOCK, end - base)
    with memoryview(buffer) as view, view[: lead + size + min(OVERHANG, end - base - size)] as window:
        length = os.preadv(fd, [window], base - lead)
    position = buffer.find(b"\n", 0, length) + 1 if lead else 0
    if (lead and not position) or position >= lead + size:
        return 0, []
    last = buffer.find(b"\n", lead + size - 1, length)
    limit = last + 1 if last >= 0 else length
    closed = buffer[limit - 1] == 10  # then an empty match at the limit belongs to the next line
    if not closed:
        buffer[limit] = 10  # RE2 looks one byte further to tell whether a line ends
    ends: deque[int] = deque(maxlen=keep)
    count = 0
    find, find_end = buffer.find, pattern._match
    crowded = False
    try:
        while position < limit:
            found: int = find_end(_ANYWHERE, buffer, position, limit)[0][1]
            if found < 0 or (found == limit and closed):
                break
            if accept is None or accept(buffer, buffer.rfind(b"\n", 0, max(found - 1, 0)) + 1):
                count += 1
                ends.append(found)
            if count == CROWDED and not crowded:
                crowded = crowd.acquire()
            # An empty match may end on the line feed itself: that line is done as well.
            position = find(b"\n", found, limit) + 1
            if not position:
                break
    finally:
        if crowded:
            crowd.release()
    offset = base - lead
    return count, [offset + buffer.rfind(b"\n", 0, finish) + 1 for finish in ends]
