"""How now compares with before: surge, drop or steady, in words and figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SURGE, DROP = 1.5, 0.5
"""Ratios to the baseline from which traffic is called a surge or a drop."""
QUIET = 1.0
"""Below this many requests a second ratios mean nothing."""
FEWEST = 5
"""Samples that a baseline needs."""


@dataclass(frozen=True)
class Sample:
    at: float
    requests_per_second: float | None
    avg_response_time_ms: float | None
    offline: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trend:
    words: str
    baseline: float | None = None
    ratio: float | None = None


def compare(samples: Sequence[Sample], now: float, baseline_s: float, recent_s: float) -> Trend:
    """The last `recent_s` seconds against the `baseline_s` before them. Medians, so one odd sample changes nothing."""
    recent = [s for s in samples if s.at > now - recent_s]
    before = [s for s in samples if now - recent_s - baseline_s < s.at <= now - recent_s]
    rates = [s.requests_per_second for s in recent if s.requests_per_second is not None]
    usual = [s.requests_per_second for s in before if s.requests_per_second is not None]
    if not rates or len(usual) < FEWEST:
        watched = f"{now - samples[0].at:.0f} s" if samples else "no time"
        return Trend(
            f"Too early to say: watched for {watched}, and a baseline needs {FEWEST} samples from before the last "
            f"{recent_s:.0f} s."
        )
    current, base = statistics.median(rates), statistics.median(usual)
    minutes = max(1, round(min(baseline_s, now - before[0].at) / 60))
    against = f"against the last {minutes} minute{'s' if minutes > 1 else ''}"
    figures = f"{base:.0f} → {current:.0f} requests/s"
    if max(current, base) < QUIET:
        return Trend(f"quiet: hardly any traffic now or in the last {minutes} min", base, None)
    ratio = current / base if base > 0 else float("inf")
    if base < QUIET:
        return Trend(f"traffic began: {figures} {against}", base, None)
    if ratio >= SURGE:
        words = f"surge ×{ratio:.1f} {against}: {figures}"
    elif ratio <= DROP:
        words = f"drop to ×{ratio:.2f} {against}: {figures}"
    else:
        words = f"steady (×{ratio:.2f}) {against}: {figures}"
    return Trend(words + _slower(recent, before), base, round(ratio, 2))


def _slower(recent: Sequence[Sample], before: Sequence[Sample]) -> str:
    now = [s.avg_response_time_ms for s in recent if s.avg_response_time_ms is not None]
    usual = [s.avg_response_time_ms for s in before if s.avg_response_time_ms is not None]
    if not now or len(usual) < FEWEST:
        return ""
    current, base = statistics.median(now), statistics.median(usual)
    if base <= 0 or 0.67 < current / base < SURGE:
        return ""
    return f"; response time {base:.0f} → {current:.0f} ms (×{current / base:.1f})"


def thin(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most `most` samples; of each stretch the one with the highest rate is kept, so peaks stay visible."""
    if len(samples) <= most:
        return list(samples)
    kept = []
    for index in range(most):
        stretch = samples[index * len(samples) // most : (index + 1) * len(samples) // most]
        kept.append(max(stretch, key=lambda s: (bool(s.offline), s.requests_per_second or 0.0)))
    return kept
