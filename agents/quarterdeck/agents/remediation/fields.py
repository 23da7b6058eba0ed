"""Read fields of answers that came from outside: whatever they hold, nothing here raises."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_PART = re.compile(r"(\d{1,6})(ms|[smhdwy])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_AGO = re.compile(r"((?:\d{1,6}(?:ms|[smhdw]))+) ago")
_CLOCK = re.compile(r"\d\d:\d\d:\d\d(?:\.\d{1,6})?")


def string(value: Any, *path: str) -> str:
    found = dig(value, *path)
    return found if isinstance(found, str) else ""


def number(value: Any, *path: str) -> float | None:
    found = dig(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if abs(found) < 1e15 else None  # infinities and what is not a number fall out too


def whole(value: Any, *path: str) -> int:
    return int(number(value, *path) or 0)


def rows(value: Any, *path: str) -> list[dict[str, Any]]:
    found = dig(value, *path)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def strings(value: Any, *path: str) -> list[str]:
    found = dig(value, *path)
    return [row for row in found if isinstance(row, str)] if isinstance(found, list) else []


def dig(value: Any, *path: str) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def table(value: Any) -> list[dict[str, str]]:
    """The rows of a listing, each by its columns' names in lower case."""
    columns = [name.lower() for name in strings(value, "columns")]
    found = dig(value, "rows")
    listed = [row for row in found if isinstance(row, list)] if isinstance(found, list) else []
    return [dict(zip(columns, map(str, row), strict=False)) for row in listed]


def span(text: str) -> float | None:
    """Seconds of `7s`, `2m30s`, `3d4h`."""
    parts = _PART.findall(text)
    return sum(int(amount) * _UNITS[unit] for amount, unit in parts) if parts else None


def ago(text: str) -> float | None:
    """Seconds of the first `… 20s ago` in a text."""
    found = _AGO.search(text)
    return span(found[1]) if found else None


def moment(text: str, taken: datetime) -> datetime | None:
    """An RFC 3339 time, or a time of day in UTC of the day that was taken."""
    try:
        if _CLOCK.fullmatch(text):
            clock = datetime.fromisoformat(f"{taken.astimezone(UTC).date().isoformat()}T{text}+00:00")
            return clock if clock <= taken + timedelta(minutes=1) else clock - timedelta(days=1)
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
