"""Surge, drop and steady, in words and figures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.stats.trends import Sample, compare, thin

NOW = 10_000.0


def samples(before: float, recent: float, *, slow: float = 10.0) -> list[Sample]:
    earlier = [Sample(NOW - age, before, 10.0) for age in range(600, 15, -5)]
    return earlier + [Sample(NOW - age, recent, slow) for age in (10, 5, 0)]


def test_a_surge_is_said_with_its_factor_and_against_what() -> None:
    trend = compare(samples(80, 150), NOW, 600, 15)
    assert trend.words.startswith("surge ×1.9 against the last 10 minutes: 80 → 150 requests/s")
    assert trend.ratio == 1.88
    assert trend.baseline == 80


def test_a_drop_and_a_steady_flow_are_told_apart() -> None:
    assert compare(samples(80, 20), NOW, 600, 15).words.startswith("drop to ×0.25")
    assert compare(samples(80, 84), NOW, 600, 15).words.startswith("steady")


def test_slower_answers_are_mentioned() -> None:
    assert "response time 10 → 45 ms (×4.5)" in compare(samples(80, 150, slow=45), NOW, 600, 15).words


def test_without_a_baseline_none_is_made_up() -> None:
    trend = compare([Sample(NOW - 8, 80, 1), Sample(NOW, 150, 1)], NOW, 600, 15)
    assert trend.words.startswith("Too early to say: watched for 8 s")
    assert compare([], NOW, 600, 15).words.startswith("Too early to say")
    assert trend.ratio is None


def test_silence_is_not_a_surge() -> None:
    assert compare(samples(0, 0.4), NOW, 600, 15).words.startswith("quiet")
    assert compare(samples(0, 50), NOW, 600, 15).words.startswith("traffic began")


def test_one_odd_sample_changes_nothing() -> None:
    odd = samples(80, 82)
    odd[-2] = Sample(NOW - 5, 900, 10)
    assert compare(odd, NOW, 600, 15).words.startswith("steady")


@given(st.lists(st.floats(0, 1e6), max_size=300), st.integers(1, 60))
def test_thinning_keeps_the_peak_and_the_bound(rates: list[float], most: int) -> None:
    found = thin([Sample(float(i), rate, None) for i, rate in enumerate(rates)], most)
    assert len(found) <= most
    assert max((s.requests_per_second or 0 for s in found), default=0) == max(rates, default=0)
