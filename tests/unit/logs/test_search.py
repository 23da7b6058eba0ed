"""Searching files for a pattern: every matching line once, whatever the blocks."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterdeck.keel.errors import Refusal
from quarterdeck.logs import search
from quarterdeck.logs.search import LONGEST_PATTERN, Pattern, Scan, Stop, scan

WAIT = 30.0


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that lines lie across their edges and several threads get some."""
    monkeypatch.setattr(search, "BLOCK", 64)
    monkeypatch.setattr(search, "THREADS", 2)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "a.log"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    yield path, fd
    os.close(fd)


def starts(data: bytes, pattern: str) -> list[int]:
    """The plain way: line by line, with Python's own expressions."""
    found, position = [], 0
    for line in data.splitlines(keepends=True):
        if re.search(pattern.encode(), line.removesuffix(b"\n"), re.MULTILINE):
            found.append(position)
        position += len(line)
    return found


LINES = st.lists(
    st.sampled_from(
        [b"", b"error", b"an error here", b"12ms", b"x" * 100, b"error " * 30, "오류".encode(), b"\xff\xfe"]
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.booleans(), st.sampled_from(["error", r"\d+ms", "^an", "r$", "오류", "^$|12", "[^z]", "x{50}"]))
def test_a_search_finds_what_looking_at_each_line_finds(
    small_blocks: None, log: tuple[Path, int], lines: list[bytes], ended: bool, pattern: str
) -> None:
    path, fd = log
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    path.write_bytes(data)
    if pattern == "[^z]":  # RE2 takes text as UTF-8, where a broken byte is no character
        data = data.replace(b"\xff\xfe", b"")
    found = scan(fd, 0, path.stat().st_size, Pattern(pattern), 1000, Stop(WAIT), most=None)
    assert found.complete
    expected = starts(data, pattern)
    assert found.matches == len(expected)
    if pattern != "[^z]":
        assert found.newest == expected


def test_only_the_newest_places_are_kept_and_all_are_counted(small_blocks: None, log: tuple[Path, int]) -> None:
    path, fd = log
    path.write_bytes(b"".join(b"line %03d error\n" % i for i in range(500)))
    found = scan(fd, 0, 7500, Pattern("error"), 3, Stop(WAIT))
    assert (found.matches, found.newest, found.complete) == (500, [497 * 15, 498 * 15, 499 * 15], True)


def test_a_part_of_the_file_is_searched_alone(log: tuple[Path, int]) -> None:
    path, fd = log
    path.write_bytes(b"error 1\nerror 2\nerror 3\nerror 4\n")
    assert scan(fd, 8, 24, Pattern("error"), 9, Stop(WAIT)) == Scan(2, [8, 16], True, 16)


def test_counting_stops_where_nearly_every_line_matches_and_says_so(small_blocks: None, log: tuple[Path, int]) -> None:
    path, fd = log
    path.write_bytes(b"error\n" * 5000)
    found = scan(fd, 0, 30000, Pattern("e"), 2, Stop(WAIT), most=100)
    assert 100 < found.matches < 5000
    assert (found.complete, found.newest) == (False, [29988, 29994])


def test_a_search_that_is_told_to_stop_says_that_it_is_not_complete(log: tuple[Path, int]) -> None:
    path, fd = log
    path.write_bytes(b"error\n")
    stop = Stop(WAIT)
    stop.cancel()
    assert scan(fd, 0, 6, Pattern("error"), 2, stop) == Scan(0, [], False, 0)
    assert scan(fd, 0, 6, Pattern("error"), 2, Stop(-1.0)).complete is False


def test_what_was_accepted_is_counted(log: tuple[Path, int]) -> None:
    path, fd = log
    path.write_bytes(b"a 1\nb 2\na 3\n")
    found = scan(fd, 0, 12, Pattern(r"\d"), 9, Stop(WAIT), accept=lambda buffer, at: buffer[at : at + 1] == b"a")
    assert (found.matches, found.newest) == (2, [0, 8])


def test_a_pattern_that_would_hang_a_backtracking_engine_is_quick() -> None:
    assert not Pattern("(a+)+$").in_line("a" * 5000 + "!")


def test_a_pattern_matches_within_lines_only() -> None:
    assert not Pattern(r"a\nb").in_line("a\nb")
    assert not Pattern(r"a[^x]b").in_line("a\nb")
    assert Pattern("^b$").lines_matching("a\nb\nbb") == 1


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?=a)", "not RE2: invalid perl operator: (?= at character 1 (backreferences and look-arounds"),
        (r"(a)\1", r"not RE2: invalid escape sequence: \1 at character 4"),
        ("ab(", "not RE2: missing ): ab( at character 1"),
        ("a)(b", "not RE2: unexpected )"),
        ("*x", "not RE2: no argument for repetition operator: * at character 1"),
        ("x[z-a]", "not RE2: invalid character class range: z-a at character 3"),
        ("a{1001}", "too large for RE2: invalid repetition size: {1001} at character 2"),
        ("((a{100}){100}){100}", "too large for RE2"),
        ("", "The pattern is empty"),
        ("x" * (LONGEST_PATTERN + 1), "1000 are allowed"),
    ],
)
def test_a_pattern_that_is_not_re2_is_refused_with_the_reason(pattern: str, said: str) -> None:
    with pytest.raises(Refusal, match=re.escape(said)):
        Pattern(pattern)
