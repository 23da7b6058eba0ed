"""A job's line says the most important first, in as many columns as there are."""

from __future__ import annotations

import io

import pytest

from quarterdeck.agents.companies.models import Job, Result
from quarterdeck.deck.batch import Tally
from quarterdeck.deck.progress import Progress, fitting
from quarterdeck.deck.screen import columns, pad

HALF = Job(id="job-1", state="running", total=1000, done=412, good=398, incomplete=10, failed=4, cost=1.234, tokens=9,
           rate_per_s=11.2, eta_s=52.4)  # fmt: skip


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_wide_terminal_shows_everything() -> None:
    line = fitting(HALF, 140)
    assert line.startswith("██████████░░░░░░░░░░░░░░  412/1,000 41% · 11.2/s · 52 s left · complete 398")
    assert line.endswith("incomplete 10 · failed 4 · $1.23")


@pytest.mark.parametrize("wide", [10, 20, 40, 60, 79, 80, 100])
def test_a_narrow_terminal_gets_no_second_line(wide: int) -> None:
    assert columns(fitting(HALF, wide)) <= wide


def test_a_terminal_is_drawn_anew_and_a_file_gets_a_line_now_and_then() -> None:
    screen, file = Screen(), io.StringIO()
    for stream in (screen, file):
        progress = Progress(stream)
        progress.show(HALF)
        progress.show(HALF)
        progress.end()
    assert screen.getvalue().count("\r\x1b[K") == 3
    assert "\n" not in screen.getvalue()
    assert file.getvalue().count("\n") == 1
    assert "412/1,000 41% · 11.2/s" in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_an_unknown_cost_is_not_shown_as_none() -> None:
    assert "12,000 tokens" in fitting(Job(id="a", state="running", total=2, done=1, tokens=12_000), 140)
    assert "$" not in fitting(Job(id="a", state="running", total=2, done=1, cost=0.0), 140)


@pytest.mark.parametrize("text", ["한빛전자", "Acme 한빛", "e\u0301clair", "x" * 50, "한" * 30, ""])
def test_names_stand_in_columns_whatever_their_letters(text: str) -> None:
    assert columns(pad(text, 28)) == 28


def test_failures_are_grouped_by_what_went_wrong() -> None:
    tally = Tally()
    for n in range(30):
        name = f"회사 {n}"
        tally.add(Result(n, name, "failed", problem=f"Try again in {n} s: nobody answers at https://x.example/{n}"))
        tally.add(Result(n, name, "complete"))
    tally.add(Result(99, "Acme", "failed", problem="Nothing is known of Acme."))
    tally.add(Result(98, "Globex", "failed", problem="Nothing is known of Globex."))
    first, second = tally.words()
    assert first == "  30 × Try again in 0 s: nobody answers at https://x.example/0  (회사 0, 회사 1, 회사 2, …)"
    assert second == "  2 × Nothing is known of Acme.  (Acme, Globex)"
    assert tally.failed == 32


def test_a_million_different_reasons_stay_few() -> None:
    tally = Tally()
    for n in range(5_000):
        tally.add(Result(n, "c", "failed", problem="".join(chr(97 + int(digit)) for digit in str(n))))
    assert len(tally.groups) <= 201
    assert sum(tally.counts.values()) == 5_000
    assert len(tally.words()) == 9
