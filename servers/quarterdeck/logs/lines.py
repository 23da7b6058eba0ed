"""One log line: when it was written, how bad it is, and what it says once its time stamp is taken off.

Understands what containers and daemons really write: RFC 3339 and Python's logging, gunicorn's brackets, Go's and
nginx' slashes, syslog (RFC 3164 and 5424), the common log format, klog, logfmt, epochs, and JSON objects.
Times are seconds since 1970 as floats, because a search compares millions of them.
"""

from __future__ import annotations

import json
import re
import time as clock
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

LONGEST = 65_536
"""Characters of one line that are looked at; the rest of a longer one is dropped by the reader."""

LEVELS = ("debug", "info", "warning", "error", "critical")

_LEVEL = {
    **dict.fromkeys(("trace", "trce", "debug", "dbug", "verbose", "finest", "finer", "fine"), "debug"),
    **dict.fromkeys(("info", "information", "notice", "log"), "info"),
    **dict.fromkeys(("warn", "warning", "wrn"), "warning"),
    **dict.fromkeys(("error", "err", "fail", "severe"), "error"),
    **dict.fromkeys(("critical", "crit", "fatal", "panic", "alert", "emerg", "emergency"), "critical"),
}
_KLOG = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
_MONTHS = dict(Jan=1, Feb=2, Mar=3, Apr=4, May=5, Jun=6, Jul=7, Aug=8, Sep=9, Oct=10, Nov=11, Dec=12)  # noqa: C408

_WORDS = "|".join(sorted((word for word in _LEVEL if word != "log"), key=len, reverse=True))
# Upper case anywhere in the head of a line; any case only where its place says that it is a level.
_LEVEL_WORD = re.compile(rf"\b({_WORDS.upper()})\b")
_LEVEL_PLACE = re.compile(
    rf"(?:^|[\[<(|]\s?)({_WORDS}|log)\s?(?:[\]>)|]|:(?:\s|$))|\b(?:level|lvl|severity)=\"?({_WORDS})\b", re.IGNORECASE
)

_LEVEL_HEAD = re.compile(
    rf"[\[<(|]?\s?(?:(?:{_WORDS})\s?(?:[\]>)|]|:(?:\s|$))|(?-i:{_WORDS.upper()})\b)", re.IGNORECASE
)

_ISO = re.compile(
    r"[\[(<]?(?:ts=|time=|timestamp=|t=|at=)?\"?"
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r"(?: ?(Z|UTC|[+-]\d\d:?\d\d)(?![\w.]))?[\"\])>]?"
)
_SYSLOG = re.compile(r"(?:<\d{1,3}>)?([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))? ")
_SYSLOG5424 = re.compile(r"<(\d{1,3})>1 ")
_KLOG_HEAD = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?\s+")
_CLF = re.compile(r"\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\]")
_EPOCH = re.compile(r"\[?(1\d{9})(?:\.(\d{1,9})|(\d{3})|(\d{6})|(\d{9}))?\]?(?=[\s:|,-])")
_LEVEL_THEN_TIME = re.compile(r"(?:\[?[A-Za-z]{3,8}\]?:?\s{1,9})(?=[\[(]?\d{4}[-/])")
_ACCESS_5XX = re.compile(r"\" 5\d\d(?: |$)")
_LEAD = " \t-:|"


@dataclass(slots=True)
class Line:
    text: str
    """As it was written, without its line end."""
    time: float | None = None
    level: str = ""
    """One of LEVELS, or empty when the line does not say."""
    body: str = ""
    """What it says: without the leading time stamp; of a JSON object its message."""
    headed: bool = False
    """Whether it carries a time or a level in its head, so that a record begins here."""


def read_line(text: str, zone: tzinfo = UTC, now: float | None = None) -> Line:
    """What one line tells. `zone` is taken where the line names none; `now` settles the year that syslog omits."""
    if text[:1] == "{" and (line := _read_json(text, zone)):
        return line
    moment, start, level = _read_time(text, zone, now)
    body = text[start:].lstrip(_LEAD) if start else text
    if not level:
        level = find_level(body if start else text)
    if moment is not None and body[:1] == "{" and (inner := _read_json(body, zone)):
        inner.text = text
        inner.time = inner.time if inner.time is not None else moment
        inner.headed = True
        return inner
    headed = moment is not None or (bool(level) and _LEVEL_HEAD.match(text) is not None)
    return Line(text, moment, level, body, headed)


def find_level(text: str) -> str:
    """The level that a line's head names, or empty."""
    head = text[:160]
    if found := _LEVEL_WORD.search(head):
        return _LEVEL[found.group(1).lower()]
    if found := _LEVEL_PLACE.search(head):
        return _LEVEL[(found.group(1) or found.group(2)).lower()]
    return ""


def is_server_error(text: str) -> bool:
    """Whether this is an access-log line of a request that was answered 5xx."""
    return '" 5' in text and _ACCESS_5XX.search(text) is not None


def read_time(text: str, zone: tzinfo = UTC, now: float | None = None) -> float | None:
    """Only the time of a line: what a binary search over a file asks for."""
    if text[:1] == "{":
        line = _read_json(text, zone)
        return line.time if line else None
    return _read_time(text, zone, now)[0]


def _read_time(text: str, zone: tzinfo, now: float | None) -> tuple[float | None, int, str]:
    """The time, where the rest of the line starts (0: the time stands inside it), and a level that came with it."""
    first = text[:1]
    level = ""
    start = 0
    if first.isalpha() or first == "[":
        if first in "IWEF" and (found := _KLOG_HEAD.match(text)):
            letter, month, day, *rest = found.groups()
            moment = _without_year(int(month), int(day), rest, zone, now)
            return moment, found.end() if moment is not None else 0, _KLOG[letter]
        if skipped := _LEVEL_THEN_TIME.match(text):
            level = _LEVEL.get(skipped.group().strip(" []:\t").lower(), "")
            start = skipped.end() if level else 0
    if found := _ISO.match(text, start):
        return _iso(found, zone), found.end(), level
    if first == "<" and (found := _SYSLOG5424.match(text)):
        if stamp := _ISO.match(text, found.end()):
            return _iso(stamp, zone), stamp.end(), _syslog_level(int(found.group(1)))
        return None, 0, _syslog_level(int(found.group(1)))
    if (first == "<" or first.isupper()) and (found := _SYSLOG.match(text)):
        month_name, day, *rest = found.groups()
        moment = _without_year(_MONTHS.get(month_name, 0), int(day), rest, zone, now)
        return moment, found.end() if moment is not None else 0, ""
    if first in "1[" and (found := _EPOCH.match(text)):
        whole, fraction, *digits = found.groups()
        finer = fraction or next((digit for digit in digits if digit), "")
        return float(f"{whole}.{finer or 0}"), found.end(), ""
    if "/" in text[:200] and (found := _CLF.search(text, 0, 400)):
        day, month_name, year, hour, minute, second, offset = found.groups()
        numbers = (int(year), _MONTHS.get(month_name, 0), int(day), int(hour), int(minute), int(second))
        return _seconds(*numbers, "", _offset(offset), zone), 0, ""
    return None, 0, ""


def _iso(found: re.Match[str], zone: tzinfo) -> float | None:
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    numbers = (int(year), int(month), int(day), int(hour), int(minute), int(second or 0))
    return _seconds(*numbers, fraction or "", _offset(offset), zone)


_days: dict[tuple[int, int, int], int] = {}


def _seconds(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    second: int,
    fraction: str,
    offset: int | None,
    zone: tzinfo,
) -> float | None:
    try:
        if offset is None and zone is not UTC:
            local = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
            return local.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
        key = (year, month, day)
        days = _days.get(key)
        if days is None:
            if len(_days) > 1000:
                _days.clear()
            days = _days[key] = datetime(year, month, day, tzinfo=UTC).toordinal() - 719_163
    except (ValueError, OverflowError, OSError):
        return None
    if hour > 24 or minute > 59 or second > 60:
        return None
    whole = days * 86_400 + hour * 3600 + minute * 60 + second - (offset or 0)
    return whole + float(f"0.{fraction}") if fraction else float(whole)


def _offset(text: str | None) -> int | None:
    if text is None:
        return None
    if text in ("Z", "UTC"):
        return 0
    seconds = int(text[1:3]) * 3600 + int(text[-2:]) * 60
    return -seconds if text[0] == "-" else seconds


def _without_year(month: int, day: int, rest: list[str | None], zone: tzinfo, now: float | None) -> float | None:
    """A time whose year is left out lies in the past: this year, or the last one when that would be the future."""
    hour, minute, second, fraction = rest
    today = datetime.fromtimestamp(clock.time() if now is None else now, zone)
    for year in (today.year, today.year - 1):
        moment = _seconds(
            year, month, day, int(hour or 0), int(minute or 0), int(second or 0), fraction or "", None, zone
        )
        if moment is not None and moment <= (today + timedelta(days=1)).timestamp():
            return moment
    return None


def _syslog_level(priority: int) -> str:
    severity = priority & 7
    return ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")[severity]


_TIME_KEYS = ("time", "ts", "timestamp", "@timestamp", "t", "datetime", "eventTime", "asctime", "date")
_LEVEL_KEYS = ("level", "lvl", "severity", "levelname", "log.level", "loglevel", "@l", "l")
_TEXT_KEYS = ("msg", "message", "event", "@m", "@mt", "log", "text")
_TRACE_KEYS = ("exc_info", "exception", "stack", "stack_trace", "stacktrace", "traceback", "error", "err", "@x")


def _read_json(text: str, zone: tzinfo) -> Line | None:
    if len(text) > LONGEST or not text.rstrip().endswith("}"):
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    moment = next((found for key in _TIME_KEYS if (found := _json_time(fields.get(key), zone)) is not None), None)
    level = next((named for key in _LEVEL_KEYS if (named := _json_level(fields.get(key)))), "")
    said = next((fields[key] for key in _TEXT_KEYS if isinstance(fields.get(key), str)), "")
    trouble = next((_last_line(fields[key]) for key in _TRACE_KEYS if fields.get(key)), "")
    body = f"{said.rstrip()}: {trouble}" if said and trouble and trouble not in said else said.rstrip() or trouble
    return Line(text, moment, level, body or text, True)


def _json_time(value: Any, zone: tzinfo) -> float | None:
    if isinstance(value, str):
        return _read_time(value + " ", zone, None)[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1e9:
        return None
    while value >= 1e11:  # milli-, micro- or nanoseconds
        value /= 1000
    return float(value)


def _json_level(value: Any) -> str:
    if isinstance(value, str):
        return _LEVEL.get(value.lower(), "")
    if isinstance(value, int) and not isinstance(value, bool):  # pino and bunyan count in tens
        return LEVELS[min(max(value // 10 - 2, 0), 4)] if value >= 10 else ""
    return ""


def _last_line(value: Any) -> str:
    """Of a stack trace inside a JSON string, the line that names the error."""
    if isinstance(value, dict):
        value = value.get("message") or value.get("msg") or value.get("stack") or ""
    if not isinstance(value, str) or not value.strip():
        return ""
    lines = value.strip().splitlines()
    return lines[-1].strip() if lines[0].startswith("Traceback") else lines[0].strip()
