"""Templates: every line belongs to one, the counts add up, and the order of the lines does not matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.logs.records import Record
from quarterdeck.logs.templates import WILD, Shapes, Template, shape

VARYING = ["10.0.0.1", "10.0.0.2", "12ms", "7ms", "id=42", "id=77", "/posts/12", "'a b'", "'c'"]
WORDS = st.sampled_from(["user", "logged", "in", "from", "took", "failed", "error", "ok", *VARYING])
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), max_size=60)


def record(text: str, time: float | None = 1.0, level: str = "info", source: str = "pod") -> Record:
    return Record(source, time, level, text, text)


def templates(lines: list[str]) -> list[Template]:
    shapes = Shapes()
    for line in lines:
        shapes.add(record(line))
    return shapes.templates()


@given(LINES)
def test_every_line_matches_a_template_and_the_counts_add_up(lines: list[str]) -> None:
    found = templates(lines)
    assert sum(template.tally.count for template in found) == len(lines)
    assert all(any(template.matches(line) for template in found) for line in lines)
    assert all(template.matches(template.tally.example) for template in found)


@given(LINES, st.randoms())
def test_the_order_of_the_lines_does_not_matter(lines: list[str], dice: object) -> None:
    mixed = list(lines)
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    count = {template.text: template.tally.count for template in templates(lines)}
    assert {template.text: template.tally.count for template in templates(mixed)} == count


@given(st.lists(st.text(max_size=80), max_size=40), st.integers(1, 10))
def test_memory_is_bounded_whatever_is_logged(lines: list[str], most: int) -> None:
    shapes = Shapes(most)
    for line in lines:
        shapes.add(record(line))
    assert len(shapes.tallies) <= 2 * most + 1
    assert sum(template.tally.count for template in shapes.templates()) == len(lines)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("took 12ms for 3 rows", "took <duration> for <num> rows"),
        ("user 550e8400-e29b-41d4-a716-446655440000 gone", "user <id> gone"),
        ("from 10.1.2.3:8080 to [::1]:80", "from <ip> to <ip>"),
        ("session=3f2a9c0b1d and trace 0xdeadbeef", "session=<id> and trace <id>"),
        ("at 2026-11-21T04:00:00.123Z it broke", "at <time> it broke"),
        ('file "a b.txt" is missing', "file <str> is missing"),
        ('"GET /posts/12 HTTP/1.1" 200', '"GET /posts/<num> HTTP/<num>" <num>'),
        ("pod blog-7d9f8 on node12", "pod blog-<id> on node<num>"),
        ("waited 1h30m", "waited <duration>"),
        ("cafe and decade are words", "cafe and decade are words"),
    ],
)
def test_what_varies_by_nature_is_masked(text: str, masked: str) -> None:
    assert shape(text) == masked


def test_lines_that_differ_in_a_word_share_a_template() -> None:
    found = templates([f"connection from {name} was closed by the peer" for name in ("ann", "bob", "eve")])
    assert [(template.text, template.tally.count) for template in found] == [
        (f"connection from {WILD} was closed by the peer", 3)
    ]


def test_a_template_tells_when_it_came_first_and_last_and_how_often_before() -> None:
    shapes = Shapes()
    for time in (30.0, 10.0, 20.0):
        shapes.add(record(f"took {time:.0f} ms", time, "warning", f"pod-{time:.0f}"))
    shapes.add(record("took 5 ms", 5.0), before=True)
    shapes.add(record("gone since", 6.0), before=True)
    took, gone = shapes.templates()
    assert (took.tally.count, took.tally.before, took.tally.first, took.tally.last) == (3, 1, 10.0, 30.0)
    assert (took.tally.level, took.tally.example) == ("warning", "took 30 ms")
    assert took.tally.sources == {"pod-10", "pod-20", "pod-30"}
    assert (gone.tally.count, gone.tally.before) == (0, 1)
