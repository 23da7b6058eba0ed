"""Durations and points in time as people write them: `90s`, `10m`, `1h30m`, `2d`, or an RFC 3339 time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_PART = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)")
_WHOLE = re.compile(r"(?:\d{1,9}(?:ms|s|m|h|d|w))+")
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
LONGEST = timedelta(days=366)


def parse_duration(text: str) -> timedelta:
    """`"1h30m"` → 90 minutes. Raises ValueError with a sentence for the caller."""
    cleaned = text.strip().lower()
    if not _WHOLE.fullmatch(cleaned):
        raise ValueError(f"{text[:40]!r} is not a duration. Write one like '90s', '10m', '2h', '1h30m' or '1d'.")
    total = timedelta()
    for amount, unit in _PART.findall(cleaned):
        total += min(int(amount), 10**9) * _UNITS[unit] if unit != "w" else min(int(amount), 10**5) * _UNITS[unit]
        if total > LONGEST:
            raise ValueError(f"{text[:40]!r} is longer than a year. Ask for a shorter time.")
    if total <= timedelta():
        raise ValueError(f"{text[:40]!r} is no time at all. Write a duration like '10m'.")
    return total


def parse_since(text: str, now: datetime | None = None) -> datetime:
    """The moment a `since` argument means: a duration back from now, or an RFC 3339 time."""
    now = now or datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return now - parse_duration(text)
        except ValueError as error:
            raise ValueError(f"{error} An RFC 3339 time such as '2026-11-21T03:00:00Z' works too.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment > now + timedelta(minutes=5):
        raise ValueError(f"{text[:40]!r} lies in the future. Give a time that has passed, or a duration like '10m'.")
    return moment


def say_duration(span: timedelta | float) -> str:
    """As a person says it, two units at most: `3d4h`, `12m`, `45s`."""
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    whole = max(0, int(seconds))
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, whole = divmod(whole, size)
        if amount:
            parts.append(f"{amount}{name}")
    return "".join(parts[:2]) or "0s"
