"""Errors, newest first, identical ones once."""

from quarterdeck.logs.faults import faults
from quarterdeck.logs.records import Record, join


def record(time: float, text: str, level: str = "error", source: str = "pod-1") -> Record:
    (joined,) = join(text.split("\n"), source)
    joined.time, joined.level = time, level
    return joined


def trace(line: int, name: str) -> str:
    return (
        f'ERROR: no\nTraceback (most recent call last):\n  File "a.py", line {line}, in {name}\n    x()\nValueError: no'
    )


def test_identical_errors_are_one_with_their_count_and_the_last_comes_first() -> None:
    found = faults(
        [
            record(1, "took 12 ms too long"),
            record(2, "disk full"),
            record(3, "took 40 ms too long", source="pod-2"),
            record(4, "fine", level="info"),
        ]
    )
    assert [(fault.newest.body, fault.count, fault.first, fault.last) for fault in found] == [
        ("took 40 ms too long", 2, 1, 3),
        ("disk full", 1, 2, 2),
    ]
    assert found[0].sources == {"pod-1", "pod-2"}


def test_tracebacks_are_told_apart_by_where_they_come_from() -> None:
    found = faults([record(1, trace(3, "read")), record(2, trace(3, "write")), record(3, trace(3, "read"))])
    assert [(fault.count, fault.last) for fault in found] == [(2, 3), (1, 2)]
    assert found[0].newest.text == trace(3, "read")
