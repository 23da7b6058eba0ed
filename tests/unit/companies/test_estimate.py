"""What a job will take is told beforehand, by the settings' own prices and limits; what is not known is said."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.agents.companies.estimate import Capacity, duration, estimate, rounded
from quarterdeck.keel.settings import ModelSettings, Price, ResearchSettings, Settings

SCHEMA = {"type": "object", "properties": {"ceo": {"type": "string"}, "founded": {"type": "integer"}}}
KEY = {"api_key": "sk-ant-test-0123456789"}


def settings(model: dict[str, Any] | None = None, **research: Any) -> Settings:
    return Settings(model=ModelSettings(**(model or {})), research=ResearchSettings(**research))


def test_without_a_key_on_the_local_corpus_it_costs_nothing() -> None:
    told = estimate(settings(), SCHEMA, 1000)
    assert (told.searches, told.model_calls, told.cost) == (4200, 0, 0.0)
    assert "model calls  none: rules read the pages" in told.words()
    assert "cost         about $0.00" in told.words()
    assert "40% of the companies need a second round" in told.words()


def test_a_model_costs_what_the_table_of_prices_says() -> None:
    model = {**KEY, "small": "claude-x", "prices": {"claude-x": Price(input=1.0, output=5.0)}}
    told = estimate(settings(model), SCHEMA, 1000, max_iterations=1)
    assert told.model_calls == 2000
    assert told.cost == pytest.approx(told.input_tokens / 1e6 + told.output_tokens * 5 / 1e6, abs=0.01)
    assert estimate(settings(model), SCHEMA, 1000, max_iterations=1, mode="rules").cost == 0.0
    twice = estimate(settings(model), SCHEMA, 2000, max_iterations=1)
    assert twice.cost == pytest.approx(2 * (told.cost or 0), abs=0.01)


def test_an_unknown_price_is_said_and_never_guessed() -> None:
    told = estimate(settings(KEY), SCHEMA, 10)
    assert told.cost is None
    assert "cost         unknown" in told.words()
    assert '[model.prices] "claude-haiku-5-5" = {input = …, output = …}' in told.words()
    told = estimate(settings(KEY, provider="brave"), SCHEMA, 10)
    assert told.cost is None
    assert len(told.unknown) == 2
    assert estimate(settings(provider="brave", prices={"brave": 0.005}), SCHEMA, 1000).cost == pytest.approx(21.0)


def test_the_slowest_part_sets_the_time() -> None:
    assert estimate(settings(provider="exa"), SCHEMA, 1000, max_iterations=1).seconds == pytest.approx(350, rel=0.01)
    slow = estimate(settings(provider="tavily"), SCHEMA, 1000, max_iterations=1)
    assert slow.seconds == pytest.approx(1850, rel=0.01)
    assert "tavily allows 100/min" in slow.words()
    narrow = estimate(settings(KEY), SCHEMA, 1000, max_iterations=1, capacity=Capacity(extraction=1, reflection=1))
    wide = estimate(settings(KEY), SCHEMA, 1000, max_iterations=1, capacity=Capacity(extraction=50, reflection=50))
    assert narrow.seconds > 1200 > 100 > wide.seconds


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1, "1 s"), (89, "89 s"), (600, "10 min"), (7800, "2 h 10 min"), (7200, "2 h"), (259200, "3 days")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_counts_are_rounded_for_reading() -> None:
    assert [rounded(one) for one in (12, 1234, 1_234_567, 2_000_000_000)] == ["12", "1.23 k", "1.23 M", "2 G"]
