"""What a job will take, before it is begun: searches, model calls, tokens, money, time; and what that rests on.

It is arithmetic on stated assumptions, not a promise. What no setting tells, such as a price, is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quarterdeck.agents.companies.columns import columns_of
from quarterdeck.keel.answers import clip
from quarterdeck.keel.settings import Settings

AGAIN = 0.4
"""Share of companies whose first round leaves something open."""
NOTES = 24_000
"""Characters of what was found that the model reads at most."""
LETTERS_A_TOKEN = 3.5
INSTRUCTIONS = 1_200
"""Tokens of the instructions around schema and notes."""
FIELD_TOKENS = 70
"""Tokens of one field in an answer: value, source, passage."""
REFLECTION_TOKENS = 400
SEARCH_S, EXTRACTION_S, REFLECTION_S = 0.8, 1.2, 0.6
HALF = 0.5
"""What a message batch costs of the usual price."""
IN_BATCHES = 2000
"""Companies in work at once in cheap mode, where most of them wait for a batch."""
BATCH_S = 3600.0
LOCAL_S = 0.05
"""A search of the corpus, or a reading by rules: processor time, so they do not run side by side."""


@dataclass(frozen=True)
class Capacity:
    """Calls that each kind of worker has in flight."""

    research: int = 10
    extraction: int = 5
    reflection: int = 2


@dataclass(frozen=True)
class Estimate:
    companies: int
    searches: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    seconds: float
    assumptions: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """What no setting tells, and how to set it."""

    def words(self) -> str:
        lines = [f"companies    {self.companies:,}", f"searches     {self.searches:,}"]
        if self.model_calls:
            tokens = f"{rounded(self.input_tokens)} tokens in, {rounded(self.output_tokens)} out"
            lines.append(f"model calls  {self.model_calls:,} (about {tokens})")
        else:
            lines.append("model calls  none: rules read the pages")
        lines.append("cost         unknown" if self.cost is None else f"cost         about ${self.cost:,.2f}")
        lines += [f"             {one}" for one in self.unknown]
        lines.append(f"time         about {duration(self.seconds)}")
        return "\n".join([*lines, "assuming     " + "\n             ".join(self.assumptions)])


def estimate(
    settings: Settings,
    schema: Mapping[str, Any],
    companies: int,
    *,
    provider: str = "",
    mode: str = "auto",
    max_iterations: int = 2,
    max_queries: int = 3,
    capacity: Capacity | None = None,
    cheap: bool = False,
) -> Estimate:
    """The whole job by the settings' providers, limits and prices."""
    capacity = capacity or Capacity()
    provider = provider or settings.research.provider
    with_model = mode == "model" or (mode == "auto" and bool(settings.model.api_key.get_secret_value()))
    again = AGAIN if max_iterations > 1 else 0.0
    rounds = companies * (1 + again)
    searches = round(rounds * max_queries)
    each = 1 if cheap else 2  # in cheap mode rules reflect
    calls = round(rounds * each) if with_model else 0
    read = (NOTES + len(json.dumps(schema, ensure_ascii=False))) / LETTERS_A_TOKEN + INSTRUCTIONS
    fields = len(columns_of(schema)) - len(columns_of({})) + 1
    tokens_in = round(rounds * each * read) if with_model else 0
    reflected = 0 if cheap else REFLECTION_TOKENS
    tokens_out = round(rounds * (fields * FIELD_TOKENS + reflected)) if with_model else 0

    assumptions = [f"{again:.0%} of the companies need a second round" if again else "one round a company"]
    unknown: list[str] = []
    cost = _searches_cost(settings, provider, searches, unknown)
    seconds = _search_time(settings, provider, rounds, searches, capacity, assumptions)
    if with_model:
        model = settings.model.small
        price = settings.model.prices.get(model)
        if price is None:
            shown = clip(model, 60)
            unknown.append(f'no price of {shown} is set: [model.prices] "{shown}" = {{input = …, output = …}}')
            cost = None
        elif cost is not None:
            share = HALF if cheap else 1.0
            cost += share * (tokens_in * price.input + tokens_out * price.output) / 1_000_000
        if cheap:
            waves = -(-companies // IN_BATCHES)
            seconds += waves * (2 if again else 1) * BATCH_S
            assumptions += [
                f"an hour for a batch, {IN_BATCHES:,} companies at once, a further one for second rounds; most end "
                "sooner, none takes more than 24 h",
                "batches cost half; rules reflect; what a batch answered badly is asked once more at the usual price",
            ]
        else:
            reading = max(rounds * EXTRACTION_S / capacity.extraction, rounds * REFLECTION_S / capacity.reflection)
            seconds = max(seconds, reading) + SEARCH_S + EXTRACTION_S + REFLECTION_S
            assumptions.append(
                f"{EXTRACTION_S:g} s for an extraction and {REFLECTION_S:g} s for a reflection, "
                f"{capacity.extraction} and {capacity.reflection} at once"
            )
        assumptions.append(
            f"up to {NOTES:,} characters of sources a round, {LETTERS_A_TOKEN:g} a token, nothing from a cache"
        )
    else:
        seconds += rounds * LOCAL_S
        assumptions.append(f"{LOCAL_S:g} s of a processor for each reading by rules")
    cost = None if cost is None else round(cost, 4)
    return Estimate(companies, searches, calls, tokens_in, tokens_out, cost, max(1.0, seconds), assumptions, unknown)


def _searches_cost(settings: Settings, provider: str, searches: int, unknown: list[str]) -> float | None:
    """Hybrid asks the first of its order that is set up, and others only when that fails."""
    if provider in ("corpus", "searxng"):
        return 0.0
    price = settings.research.prices.get(provider)
    if price is None:
        unknown.append(f"no price of {clip(provider, 40)} is set: [research.prices] {clip(provider, 40)} = …")
        return None
    return price * searches


def _search_time(
    settings: Settings, provider: str, rounds: float, searches: int, capacity: Capacity, assumptions: list[str]
) -> float:
    if provider == "corpus":
        assumptions.append(f"{LOCAL_S:g} s of a processor to search the local corpus")
        return rounds * LOCAL_S
    at_once = rounds * SEARCH_S / capacity.research
    assumptions.append(f"{SEARCH_S:g} s to search for a company, {capacity.research} at once")
    limit = settings.research.limits.get(provider, "")
    if not limit:
        return at_once
    count, _, unit = limit.partition("/")
    assumptions.append(f"{clip(provider, 40)} allows {limit} and answers none from the cache")
    return max(at_once, searches / (int(count) / (60 if unit == "min" else 1)))


def rounded(count: int) -> str:
    """1234567 → 1.2 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def duration(seconds: float) -> str:
    """As people say it: 45 s, 3 min, 2 h 10 min, 3 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours / 24:.0f} days"
