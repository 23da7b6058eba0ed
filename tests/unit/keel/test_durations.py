"""Durations and points in time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.keel.durations import LONGEST, parse_duration, parse_since, say_duration

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("250ms", 0.25), (" 1H ", 3600), ("1w", 604800)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text",
    ["", "10", "m", "-5m", "5 m", "1.5h", "10m ago", "yesterday", "0s", "0m0s", "10y", "∞", "1h\n", "1" * 40 + "s"],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    if text == "1h\n":  # blanks around are forgiven
        assert parse_duration(text) == timedelta(hours=1)
        return
    with pytest.raises(ValueError, match=r"'\d+[smhd]'|shorter"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["367d", "53w", "999999999w", "999999999d" * 3, "200d200d"])
def test_more_than_a_year_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than a year"):
        parse_duration(text)


def test_an_error_shows_little_of_a_long_input() -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        parse_duration("x" * 10_000)
    assert len(str(caught.value)) < 200


@given(st.integers(1, int(LONGEST.total_seconds())))
def test_a_duration_that_was_said_can_be_read_again_to_its_second_unit(seconds: int) -> None:
    back = parse_duration(say_duration(seconds)).total_seconds()
    assert back <= seconds
    assert seconds - back < 86400
    if seconds < 3600:
        assert back == seconds


@given(st.text(max_size=60))
def test_any_text_is_a_moment_that_has_passed_or_a_refusal(text: str) -> None:
    try:
        moment = parse_since(text, NOW)
    except ValueError as error:
        assert len(str(error)) < 300
    else:
        assert moment.tzinfo is not None
        assert moment <= NOW + timedelta(minutes=5)


def test_since_takes_durations_and_times_with_and_without_a_zone() -> None:
    assert parse_since("10m", NOW) == NOW - timedelta(minutes=10)
    assert parse_since("2026-11-21T02:00:00Z", NOW) == NOW - timedelta(hours=1)
    assert parse_since("2026-11-21T04:00:00+02:00", NOW) == NOW - timedelta(hours=1)
    assert parse_since("2026-11-21T02:00:00", NOW) == NOW - timedelta(hours=1)


def test_the_edges_of_the_calendar_are_no_crash() -> None:
    assert parse_since("0001-01-01T00:00:00+23:59", NOW).year == 1
    with pytest.raises(ValueError, match="future"):
        parse_since("9999-12-31T23:59:59-23:59", NOW)


def test_a_moment_to_come_is_refused() -> None:
    with pytest.raises(ValueError, match="future"):
        parse_since("2026-11-21T03:06:00Z", NOW)


@pytest.mark.parametrize(
    ("span", "said"),
    [(0, "0s"), (-5, "0s"), (45, "45s"), (60, "1m"), (3661, "1h1m"), (86400 * 3 + 4 * 3600 + 59, "3d4h"), (0.9, "0s")],
)
def test_durations_are_said_in_two_units_at_most(span: float, said: str) -> None:
    assert say_duration(span) == said
    assert say_duration(timedelta(seconds=span)) == said
